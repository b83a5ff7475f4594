"""Building peptides from sequences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openmm import Context, Platform, VerletIntegrator, app

from mlsim.chem import checks, peptide
from mlsim.chem.peptide import Torsions, build
from mlsim.chem.sequence import ONE_TO_THREE, Sequence
from mlsim.chem.torsions import dihedrals
from mlsim.errors import InputError

OUTSIDE_DATA = Path(__file__).parents[3] / "shared" / "data" / "ala2-metad-ff14SB-tip3p.npz"
#: Net charges at pH 7 of the residues that have one, e.
CHARGES = {"ARG": 1, "LYS": 1, "HIP": 1, "ASP": -1, "GLU": -1}


@pytest.mark.parametrize("residue", [*ONE_TO_THREE.values(), "HID", "HIP", "ASH", "GLH"])
def test_every_capped_amino_acid_is_built_and_passes_the_checks(residue: str) -> None:
    molecule = build(f"ACE-{residue}-NME")
    assert checks.check(molecule).passed
    assert len(checks.omegas(molecule)) == 2
    assert molecule.charges.sum() == pytest.approx(CHARGES.get(residue, 0), abs=1e-6)


@pytest.mark.parametrize(("sequence", "charge"), [("AG", 0), ("PP", 0), ("ACE-HIS", -1), ("CYS-NME", 1)])
def test_ends_without_caps_are_charged(sequence: str, charge: int) -> None:
    molecule = build(sequence)
    assert checks.check(molecule).passed
    assert molecule.charges.sum() == pytest.approx(charge, abs=1e-6)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.text(alphabet="".join(ONE_TO_THREE), min_size=10, max_size=20))
def test_random_sequences_of_ten_to_twenty_residues_pass_the_checks(letters: str) -> None:
    molecule = build(letters)
    report = checks.check(molecule)
    assert report.passed, "\n".join(report.lines())
    assert len(molecule.backbone) == len(letters)


def test_alanine_dipeptide_has_the_amber_atom_order() -> None:
    molecule = build("ACE-ALA-NME")
    expected = "H1 CH3 H2 H3 C O N H CA HA CB HB1 HB2 HB3 C O N H C H1 H2 H3"
    assert " ".join(molecule.atom_names) == expected
    assert molecule.backbone == (("ALA2", (4, 6, 8, 14), (6, 8, 14, 16)),)


def test_vacuum_energies_of_data_made_elsewhere_are_reproduced_so_the_atom_order_matches() -> None:
    if not OUTSIDE_DATA.is_file():
        pytest.skip(f"{OUTSIDE_DATA} is not here: atom order not compared with data made elsewhere")
    molecule = build("ACE-ALA-NME")
    context = Context(
        molecule.system_template(app.NoCutoff), VerletIntegrator(0.001), Platform.getPlatformByName("Reference")
    )
    with np.load(OUTSIDE_DATA) as data:
        frames, energies = data["x"][::3000], data["evac"][::3000]
    for positions, energy in zip(frames, energies, strict=True):
        context.setPositions(positions.astype(np.float64))
        assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(float(energy), abs=0.01)


def test_the_same_sequence_gives_the_same_molecule_and_leaves_the_global_generator_alone() -> None:
    random.seed(5)
    before = random.getstate()
    first = build("ACE-SER-NME")
    assert random.getstate() == before
    random.seed(6)
    second = build("ACE-SER-NME")
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.digest == second.digest


def test_given_torsions_survive_the_minimisation() -> None:
    helix = [Torsions(phi=-63.0, psi=-42.0)] * 12
    molecule = build("ACE-AAAAAAAAAA-NME", torsions=helix)
    quadruples = np.array([phi for _, phi, _ in molecule.backbone[2:-2]])
    phi = np.degrees(dihedrals(molecule.positions, quadruples))
    assert np.abs(phi + 63.0).max() < 20.0


def test_after_a_start_that_clashes_another_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    extended = peptide._conformations
    tried = []

    def knot_first(sequence: Sequence) -> Iterator[list[Torsions]]:
        for k, start in enumerate(extended(sequence)):
            tried.append(k)
            yield [Torsions(phi=0.0, psi=0.0, omega=0.0)] * len(sequence) if k == 0 else start

    monkeypatch.setattr(peptide, "_conformations", knot_first)
    molecule = build("ACE-PTWIPR-NME")
    assert tried[:2] == [0, 1]
    assert checks.check(molecule).passed


def test_torsions_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="expected one per residue, 3 with caps, got 1"):
        build("ACE-ALA-NME", torsions=[Torsions()])


def test_a_conformation_that_clashes_is_refused_and_not_returned() -> None:
    knot = [Torsions(phi=0.0, psi=0.0, omega=0.0)] * 12
    with pytest.raises(InputError, match="no structure passed the checks"):
        build("A" * 12, torsions=knot)
