"""Collective variables: right numbers, right residues, clear refusals."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest

from mlsim.analysis import observables
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.errors import InputError


def _topology(molecule: Molecule) -> mdtraj.Topology:
    return mdtraj.Topology.from_openmm(molecule.topology)


@pytest.fixture(scope="module")
def tripeptide() -> Molecule:
    return load_system("alanine-tripeptide")


@pytest.fixture(scope="module")
def chignolin() -> Molecule:
    return load_system("chignolin")


def test_phi_and_psi_of_the_dipeptide_are_the_torsions_of_its_one_residue(ala2: Molecule) -> None:
    rng = np.random.default_rng(1)
    positions = ala2.positions + 0.02 * rng.normal(size=(7, ala2.n_atoms, 3))
    found = observables.evaluate(positions, _topology(ala2), ("phi", "psi"))
    exact = dihedrals(positions, ramachandran_atoms(ala2)[1][0])
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_known_atoms_of_the_dipeptide_define_phi(ala2: Molecule) -> None:
    found = observables.evaluate(ala2.positions[None], _topology(ala2), ("phi", "psi"))
    exact = dihedrals(ala2.positions[None], np.array([[4, 6, 8, 14], [6, 8, 14, 16]]))
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_a_residue_is_chosen_by_its_number(tripeptide: Molecule) -> None:
    names = ("phi:2", "psi:2", "phi:3", "psi:3")
    found = observables.evaluate(tripeptide.positions[None], _topology(tripeptide), names)
    exact = dihedrals(tripeptide.positions[None], ramachandran_atoms(tripeptide)[1].reshape(-1, 4))
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_two_residues_without_a_choice_are_refused_with_the_choices(tripeptide: Molecule) -> None:
    with pytest.raises(InputError, match=r"2 residues have phi; choose one of phi:2 phi:3"):
        observables.evaluate(tripeptide.positions[None], _topology(tripeptide), ("phi",))


def test_radius_of_gyration_and_distances_have_their_exact_values(chignolin: Molecule) -> None:
    topology = _topology(chignolin)
    specs = ("rg", "end-to-end", "distance:1.CA,10.CA", "distance:3.CG,8.N")
    found = observables.evaluate(chignolin.positions[None], topology, specs)[0]
    masses = np.array([atom.element.mass for atom in topology.atoms])
    centre = (masses[:, None] * chignolin.positions).sum(axis=0) / masses.sum()
    exact = np.sqrt((masses * np.square(chignolin.positions - centre).sum(axis=1)).sum() / masses.sum())
    assert found[0] == pytest.approx(exact, rel=1e-6)
    assert found[1] == pytest.approx(found[2], rel=1e-12)
    first, second = topology.select("resSeq 3 and name CG")[0], topology.select("resSeq 8 and name N")[0]
    exact = np.linalg.norm(chignolin.positions[first] - chignolin.positions[second])
    assert found[3] == pytest.approx(exact, rel=1e-6)


def test_chi1_is_taken_from_the_side_chain(chignolin: Molecule) -> None:
    found = observables.evaluate(chignolin.positions[None], _topology(chignolin), ("chi1:3",))
    exact = mdtraj.compute_chi1(mdtraj.Trajectory(chignolin.positions[None], _topology(chignolin)), periodic=False)
    assert np.any(np.isclose(exact[1], found, atol=1e-5))


def test_rigid_motion_changes_no_observable(ala2: Molecule) -> None:
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    moved = ala2.positions @ rotation.T + rng.normal(size=3)
    specs = ("phi", "psi", "rg", "distance:1.CH3,3.C")
    both = observables.evaluate(np.stack([ala2.positions, moved]), _topology(ala2), specs)
    np.testing.assert_allclose(both[0], both[1], atol=5e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ph", "did you mean 'phi'"),
        ("nonsense", "known: phi"),
        ("phi:two", "expected residue number"),
        ("rg:3", "expected nothing"),
        ("distance:2.NZ", "two atoms"),
    ],
)
def test_a_spec_that_is_not_understood_is_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        observables.parse(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("phi:9", "residue 9 has no phi; possible: phi:2"),
        ("chi1", "no residue of this molecule has chi1"),
        ("distance:2.CA,2.CA", "two different atoms"),
        ("distance:2.NZ,2.CA", "no atom NZ in residue ALA2"),
        ("distance:7.N,2.CA", "no residue 7"),
        ("end-to-end", "at least two CA"),
    ],
)
def test_a_spec_that_does_not_fit_the_molecule_is_refused(ala2: Molecule, spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        observables.evaluate(ala2.positions[None], _topology(ala2), (spec,))


def test_positions_that_are_not_numbers_are_refused(ala2: Molecule) -> None:
    broken = np.array(ala2.positions)[None]
    broken[0, 3, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        observables.evaluate(broken, _topology(ala2), ("phi",))
    with pytest.raises(InputError, match="at least one frame"):
        observables.evaluate(broken[:0], _topology(ala2), ("phi",))
