"""A set of peptides made and packed by GROMACS on small sizes; a second call finds everything done."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlsim.dataset.packed import unpack, unpack_set
from mlsim.workflow.force_data import make_peptide_set
from mlsim.workflow.force_data.peptide_set import Manifest, segments

pytest.importorskip("parmed")
if shutil.which("gmx") is None:
    pytest.skip("LOUD SKIP: no gmx program, the set of peptides is not tested", allow_module_level=True)

SHIPPED = Path(__file__).resolve().parents[2] / "systems" / "peptides"


def test_segments_are_made_once_and_packed_by_peptide(tmp_path: Path) -> None:
    values = yaml.safe_load((SHIPPED / "data.yaml").read_text())
    values |= {"segment_ns": 0.002, "equilibration_ps": 0.4, "discard_ps": 0.5, "padding_nm": 0.7}
    values["peptides"] = [{"sequence": "ACE-GLY-NME", "ns": 0.004}]
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump(values))
    manifest = Manifest.load(path)
    said: list[str] = []
    tally = make_peptide_set.make(manifest, SHIPPED, tmp_path / "runs", say=said.append)
    assert (tally.counts["done"], len(said)) == (2, 2)
    assert not list((tmp_path / "runs").rglob("*.trr"))
    written = make_peptide_set.pack(manifest, tmp_path / "runs", tmp_path / "packed")
    assert [path.name for path, _ in written] == ["start-000.h5", "start-001.h5"]
    assert not make_peptide_set.pack(manifest, tmp_path / "runs", tmp_path / "packed")
    frames = unpack_set(tmp_path / "packed")["ACE-GLY-NME"]
    assert len(frames) == 2 * 3  # 0.5 ps apart, the first of four left out
    assert sorted(set(frames.run)) == [0, 1]
    assert unpack(written[0][0]).provenance["role"] == "training"
    assert np.abs(frames.forces.sum(axis=1)).max() > 0  # the water pushes the molecule as a whole
    elsewhere = make_peptide_set.make(
        manifest, SHIPPED, tmp_path / "elsewhere", say=said.append, packed=tmp_path / "packed"
    )
    assert (elsewhere.counts["waiting"], len(said)) == (2, 2)  # packed already: nothing is made anew
    again = make_peptide_set.make(manifest, SHIPPED, tmp_path / "runs", say=said.append)
    assert again.counts["done"] == len(list(segments(manifest, tmp_path / "runs")))
    assert len(said) == 2
