"""Texts made from MEDLINE exports and run directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlsim.errors import InputError, MissingError
from mlsim.repr.texts import abstracts, run_report

EXPORT = """PMID- 1
TI  - Folding of a small
      hairpin.
AB  - We fold it. It takes
      one microsecond.
AU  - Somebody A

PMID- 2
TI  - Without an abstract.

PMID- 3
TI  - Another.
AB  - Second abstract.
"""


def test_abstracts_are_joined_over_lines_and_articles_without_one_left_out(tmp_path: Path) -> None:
    path = tmp_path / "export.nbib"
    path.write_text(EXPORT)
    assert abstracts(path) == {
        "1": "Folding of a small hairpin. We fold it. It takes one microsecond.",
        "3": "Another. Second abstract.",
    }


def test_a_run_is_told_with_its_numbers(tmp_path: Path) -> None:
    run = tmp_path / "first"
    run.mkdir()
    settings = {"system": "chignolin", "solvent": "obc2", "temperature_K": 310.0, "timestep_fs": 4.0, "ns": 2.0}
    (run / "run.json").write_text(json.dumps({"settings": settings, "status": "complete"}))
    (run / "log.csv").write_text("step,temperature_K,potential_kJ_mol\n1,300,-10\n2,310,-30\n3,3")
    told = " ".join(run_report(run))
    for words in ("chignolin", "obc2", "310 K", "2 ns", "complete", "-20.0 kJ/mol", "305.0 K", "over 2 frames"):
        assert words in told


def test_what_is_no_export_and_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing tagged")
    with pytest.raises(InputError, match="no abstract"):
        abstracts(tmp_path / "notes.txt")
    with pytest.raises(MissingError):
        abstracts(tmp_path / "none.nbib")
    with pytest.raises(MissingError, match="run directory"):
        run_report(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not the record"):
        run_report(tmp_path)
