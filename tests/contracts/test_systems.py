"""What every shipped system must fulfil; a new directory in systems/ is tested without a new line here."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.chem import checks
from mlsim.chem.catalog import shipped
from mlsim.chem.readers.system_directory import SystemEntry, read_system

ENTRIES = [read_system(path.parent) for path in sorted((shipped() / "systems").glob("*/system.yaml"))]
each_system = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.record.name)


def test_there_are_shipped_systems() -> None:
    assert len(ENTRIES) >= 3


@each_system
def test_the_directory_is_named_after_the_system(entry: SystemEntry) -> None:
    assert entry.directory.name == entry.record.name


@each_system
def test_the_structure_fits_its_sequence_and_passes_every_check(entry: SystemEntry) -> None:
    report = checks.check(entry.load())
    assert report.passed, "\n".join(report.lines())


@each_system
def test_the_record_says_where_the_structure_comes_from(entry: SystemEntry) -> None:
    assert entry.record.description
    assert entry.record.origin
    assert all(path.exists() for path in entry.reference_surfaces)


@each_system
def test_the_structure_can_be_built_again_from_its_record(entry: SystemEntry) -> None:
    kept, anew = entry.load(), entry.rebuild()
    assert kept.digest == anew.digest
    distances = [np.linalg.norm(m.positions[:, None] - m.positions[None], axis=-1) for m in (kept, anew)]
    heavy = np.array([e != "H" for e in kept.elements])
    assert np.abs(distances[0] - distances[1])[np.ix_(heavy, heavy)].max() < 0.05


def test_chignolin_is_the_hairpin_with_its_hydrogen_bonds() -> None:
    """Donor-acceptor distances of the native fold (5AWL: 0.287, 0.284, 0.285 nm)."""
    molecule = next(e for e in ENTRIES if e.record.name == "chignolin").load()
    residues = [{a.name: molecule.positions[a.index] for a in r.atoms()} for r in molecule.topology.residues()]
    for donor, acceptor in ((3, 8), (7, 3), (10, 1)):
        assert np.linalg.norm(residues[donor - 1]["N"] - residues[acceptor - 1]["O"]) < 0.33
    ends = np.linalg.norm(residues[0]["CA"] - residues[9]["CA"])
    assert 0.4 < ends < 0.65
