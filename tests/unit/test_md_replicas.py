"""Copies of a molecule in one System: each is exactly the molecule alone."""

from __future__ import annotations

import numpy as np
import pytest
from openmm import Context, Platform, System

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.deploy.bind import ForceField
from mlsim.deploy.bridges.openmm_force import torchforce_problem
from mlsim.deploy.bridges.replicated import BatchedCallback, batched_force
from mlsim.deploy.potential import learned
from mlsim.errors import InputError, UnphysicalError
from mlsim.md.integrator import langevin_middle, verlet
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.copies import split, tiled
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.impulses import ImpulseLangevin, Impulses
from mlsim.potentials.named import FACTORIES
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from tests.toy_artifact import declared_verified, toy_artifact

COPIES = 3


def numbers(system: System, positions: np.ndarray) -> tuple[float, np.ndarray]:
    context = Context(system, verlet(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    state = context.getState(getEnergy=True, getForces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def scattered(molecule: Molecule) -> np.ndarray:
    """Copies that overlap in space but have different conformations."""
    generator = np.random.default_rng(4)
    return tiled(molecule.positions, COPIES) + generator.normal(scale=0.005, size=(COPIES * molecule.n_atoms, 3))


@pytest.fixture(scope="module")
def learned_potential(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> Potential:
    field = ForceField(declared_verified(toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2)))
    return learned("issnet:toy", field, "python")


@pytest.mark.parametrize("constraints", ["none", "hbonds"])
@pytest.mark.parametrize("name", ["alanine-dipeptide", "chignolin"])
def test_every_copy_has_energy_and_forces_of_the_molecule_alone(name: str, constraints: str) -> None:
    molecule = load_system(name)
    single = build_system(molecule, Vacuum(), constraints, 1.5)
    x = scattered(molecule)
    energy, forces = numbers(build_system(molecule, Vacuum(), constraints, 1.5, copies=COPIES), x)
    alone = [numbers(single, part) for part in split(x, COPIES)]
    assert energy == pytest.approx(sum(e for e, _ in alone), rel=1e-9)
    for found, (_, expected) in zip(split(forces, COPIES), alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_one_learned_call_gives_every_copy_what_it_has_alone(learned_potential: Potential, ala2: Molecule) -> None:
    x = scattered(ala2)
    energy, forces = numbers(build_system(ala2, learned_potential, "hbonds", 1.5, copies=COPIES), x)
    single = build_system(ala2, learned_potential, "hbonds", 1.5)
    alone = [numbers(single, part) for part in split(x, COPIES)]
    assert energy == pytest.approx(sum(e for e, _ in alone), rel=1e-9)
    np.testing.assert_allclose(forces, np.vstack([f for _, f in alone]), rtol=1e-9, atol=1e-9 * np.abs(forces).max())


def test_torchforce_on_all_copies_is_the_callback_on_all_copies(learned_potential: Potential, ala2: Molecule) -> None:
    problem = torchforce_problem()
    if problem is not None:
        pytest.skip(f"LOUD SKIP: {problem}")
    field = learned_potential.terms[1].source  # type: ignore[attr-defined]
    x, found = scattered(ala2), []
    for bridge in ("python", "torch"):
        system = build_system(ala2, learned("issnet:toy", field, bridge), "hbonds", 1.5, copies=COPIES)
        found.append(numbers(system, x))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5 * np.abs(found[0][1]).max())


def test_copies_obey_impulses_together(learned_potential: Potential, ala2: Molecule) -> None:
    """Two copies in one Context with impulses every 2 move as each does alone, without noise and constraints."""
    ends = []
    for copies in (1, 2):
        impulses = Impulses(2)
        system = build_system(ala2, learned_potential, "none", 1.5, 0, impulses, copies)
        integrator = ImpulseLangevin(0.0, 0.0, 0.001, impulses)
        context = Context(system, integrator, Platform.getPlatformByName("Reference"))
        context.setPositions(tiled(ala2.positions, copies))
        integrator.step(20)
        ends.append(split(np.array(context.getState(getPositions=True).getPositions(asNumpy=True)._value), copies))
    for copy in ends[1]:
        np.testing.assert_array_equal(copy, ends[0][0])


def test_masses_and_constraints_are_those_of_the_molecule(ala2: Molecule) -> None:
    single = build_system(ala2, Vacuum(), "hbonds", 1.5)
    system = build_system(ala2, Vacuum(), "hbonds", 1.5, copies=COPIES)
    masses = [single.getParticleMass(k)._value for k in range(22)]
    assert [system.getParticleMass(k)._value for k in range(22 * COPIES)] == masses * COPIES
    assert system.getNumConstraints() == COPIES * single.getNumConstraints()
    i, j, length = system.getConstraintParameters(single.getNumConstraints())
    a, b, expected = single.getConstraintParameters(0)
    assert (i, j, length) == (a + 22, b + 22, expected)


def test_copies_that_overlap_stay_finite_and_apart(ala2: Molecule) -> None:
    system = build_system(ala2, Vacuum(), "hbonds", 1.5, copies=COPIES)
    integrator = langevin_middle(300.0, 1.0, 0.002, 1)
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(tiled(ala2.positions, COPIES))
    integrator.step(200)
    x = split(np.array(context.getState(getPositions=True).getPositions(asNumpy=True)._value), COPIES)
    assert np.isfinite(x).all()
    assert np.abs(x[0] - x[1]).max() > 1e-3


@pytest.mark.parametrize("model", ["gbn2", "tip3p"])
def test_what_has_no_pair_form_is_refused(ala2: Molecule, model: str) -> None:
    potential = FACTORIES[model](None, PotentialRequest(ala2))
    with pytest.raises(InputError, match=r"cannot act on several copies|expects a solvated molecule"):
        build_system(ala2, potential, "hbonds", 1.5, copies=2)


def test_bad_counts_and_boxes_are_refused(ala2: Molecule, learned_potential: Potential) -> None:
    with pytest.raises(InputError, match="copies: expected at least 1, got 0"):
        build_system(ala2, Vacuum(), "hbonds", 1.5, copies=0)
    water = ExplicitWater(padding_nm=0.3).prepare(ala2)
    with pytest.raises(InputError, match="without box"):
        build_system(water, Vacuum(), "hbonds", 1.5, copies=2)
    bound = learned_potential.terms[1].source.bind(ala2)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="copies"):
        batched_force(bound, 0)


def test_a_copy_that_blows_up_is_named(learned_potential: Potential, ala2: Molecule) -> None:
    bound = learned_potential.terms[1].source.bind(ala2)  # type: ignore[attr-defined]
    x = split(tiled(ala2.positions, COPIES), COPIES).copy()
    x[1, 3, 0] = np.nan
    with pytest.raises(UnphysicalError, match="copy 1"):
        BatchedCallback(bound.evaluator, "toy", COPIES).compute(x)
