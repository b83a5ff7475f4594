"""The manifest of a set of peptides: what it refuses, and the order in which its segments are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from mlsim.chem.peptide import build
from mlsim.errors import InputError, SettingsError
from mlsim.workflow.force_data.peptide_set import Manifest, bias_for_kinds, frames_per_segment, segments

SHIPPED = Path(__file__).resolve().parents[2] / "systems" / "peptides" / "data.yaml"


@pytest.fixture
def values() -> dict[str, object]:
    content = yaml.safe_load(SHIPPED.read_text())
    content["peptides"] = [
        {"sequence": "ACE-ALA-NME", "ns": 0.5},
        {"sequence": "ACE-GLY-NME", "ns": 0.25, "role": "validation"},
    ]
    return dict(content)


def load(values: dict[str, object], tmp_path: Path) -> Manifest:
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump(values))
    return Manifest.load(path)


def test_the_shipped_manifest_covers_every_amino_acid_and_no_test_peptide() -> None:
    manifest = Manifest.load(SHIPPED)
    inside = {r for entry in manifest.peptides if entry.role == "training" for r in entry.sequence.split("-")}
    names = "ALA ARG ASN ASP CYS GLN GLU GLY HID HIE HIP ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL ASH GLH LYN"
    assert set(names.split(" ")) <= inside
    assert sum(entry.role == "validation" for entry in manifest.peptides) == 5


def test_segments_come_round_by_round(values: dict[str, object], tmp_path: Path) -> None:
    order = [(s.entry.sequence, s.number) for s in segments(load(values, tmp_path), tmp_path)]
    assert order == [("ACE-ALA-NME", 0), ("ACE-GLY-NME", 0), ("ACE-ALA-NME", 1)]


def test_a_test_peptide_is_refused_however_it_is_written(values: dict[str, object], tmp_path: Path) -> None:
    values["peptides"] = [{"sequence": "ACE-LYS ALA-GLU-NME", "ns": 1.0}]
    with pytest.raises(SettingsError, match="test peptide"):
        load(values, tmp_path)


def test_a_peptide_given_twice_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    values["peptides"] = [{"sequence": "ACE-HIS-NME", "ns": 1.0}, {"sequence": "ACE-HIE-NME", "ns": 1.0}]
    with pytest.raises(SettingsError, match="given twice"):
        load(values, tmp_path)


def test_the_discarded_beginning_is_not_counted(values: dict[str, object], tmp_path: Path) -> None:
    assert frames_per_segment(load(values, tmp_path)) == 500 - 10


def test_each_residue_gets_the_surface_of_its_kind() -> None:
    surfaces = SHIPPED.parent / "biases.npz"
    bias = bias_for_kinds(build("ACE-GLY-PRO-SER-NME"), surfaces, 300.0)
    with np.load(surfaces) as archive:
        for grid, kind in zip(bias.grid, ("GLY", "PRO", "general"), strict=True):
            np.testing.assert_allclose(grid, archive[kind])


def test_a_file_without_the_general_surface_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", GLY=np.zeros((72, 72)))
    with pytest.raises(InputError, match="general"):
        bias_for_kinds(build("ACE-SER-NME"), tmp_path / "b.npz", 300.0)
