"""``mlsim build`` and ``mlsim systems`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mlsim.chem.catalog import load_system
from mlsim.cli.simulation import build_options as group
from mlsim.errors import InputError, OccupiedError

APP = typer.Typer()
group.register(APP)


def _run(*words: str) -> str:
    result = CliRunner().invoke(APP, list(words))
    if result.exception is not None:
        raise result.exception
    return result.output


def test_build_writes_a_system_that_loads_and_reports_the_checks(tmp_path: Path) -> None:
    output = _run("build", "ACE-ALA-NME", "-o", str(tmp_path / "ala2"))
    assert "22 atoms, charge 0 e" in output
    assert output.count("\n  ok ") == 6
    assert load_system(tmp_path / "ala2").digest == load_system("alanine-dipeptide").digest


def test_build_takes_a_pdb_file(tmp_path: Path) -> None:
    load_system("alanine-dipeptide").to_pdb(tmp_path / "in.pdb")
    _run("build", str(tmp_path / "in.pdb"), "-o", str(tmp_path / "out"))
    assert load_system(tmp_path / "out").digest == load_system("alanine-dipeptide").digest


@pytest.mark.parametrize("sequence", ["ACE-XYZ-NME", "ALA-DAL", "yy"])
def test_a_bad_sequence_leaves_nothing_behind(sequence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        _run("build", sequence, "-o", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_directory_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("keep me")
    with pytest.raises(OccupiedError):
        _run("build", "ACE-ALA-NME", "-o", str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_systems_lists_what_ships() -> None:
    output = _run("systems")
    for name in ("alanine-dipeptide", "alanine-tripeptide", "chignolin", "lys-ala-glu"):
        assert name in output
