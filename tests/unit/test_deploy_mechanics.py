"""Molecular mechanics in the callback: the terms of OpenMM to the last digits, taken over only where they are alike."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import openmm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openmm import Context, NonbondedForce, Platform, System, VerletIntegrator, app

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.deploy.bind import ForceField
from mlsim.deploy.bridges.openmm_force import python_force
from mlsim.deploy.kernel.mechanics import Mechanics
from mlsim.deploy.potential import LearnedPotential
from mlsim.potentials import callback
from mlsim.potentials.born import GeneralizedBorn
from mlsim.potentials.contract import Potential, PotentialRequest, Sum
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.named import resolve
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import add_force_field, build_system, plan, skeleton
from mlsim.potentials.vacuum import Vacuum
from tests.toy_artifact import declared_verified, toy_artifact

REFERENCE = Platform.getPlatformByName("Reference")


@pytest.fixture(scope="module")
def field(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForceField]:
    place = tmp_path_factory.mktemp("ff")
    artifact = declared_verified(toy_artifact(place / "toy", ala2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSIM_PATH", str(place))
        yield ForceField(artifact)


def by_openmm(system: System, positions: np.ndarray) -> tuple[float, np.ndarray]:
    context = Context(system, VerletIntegrator(0.001), REFERENCE)
    context.setPositions(positions)
    state = context.getState(getEnergy=True, getForces=True)
    return float(state.getPotentialEnergy()._value), np.array(state.getForces(asNumpy=True)._value)


def by_us(mechanics: Mechanics, positions: np.ndarray) -> tuple[float, np.ndarray]:
    forces = np.zeros_like(positions)
    return mechanics.add(np.ascontiguousarray(positions), forces), forces


def assert_alike(mechanics: Mechanics | None, system: System, positions: np.ndarray) -> None:
    assert mechanics is not None
    (energy, forces), (expected, pushes) = by_us(mechanics, positions), by_openmm(system, positions)
    assert energy == pytest.approx(expected, rel=1e-10, abs=1e-9)
    np.testing.assert_allclose(forces, pushes, rtol=1e-9, atol=1e-9 * max(1.0, float(np.abs(pushes).max())))


@pytest.mark.parametrize("name", ["alanine-dipeptide", "alanine-tripeptide", "chignolin"])
@pytest.mark.parametrize("constraints", ["hbonds", "none"])
def test_energies_and_forces_are_those_of_openmm(name: str, constraints: str) -> None:
    molecule, generator = load_system(name), np.random.default_rng(3)
    system = build_system(molecule, Vacuum(), constraints, 1.5)
    mechanics = Mechanics.of(list(system.getForces()), molecule.n_atoms)
    for _ in range(3):
        x = molecule.positions + generator.normal(scale=0.01, size=molecule.positions.shape) + 5.0
        assert_alike(mechanics, system, x)


strengths = st.floats(-50.0, 50.0)
torsions = st.tuples(st.permutations(range(5)), st.integers(1, 6), st.floats(-7.0, 7.0), strengths)
pairs = st.tuples(st.sampled_from([(0, 1), (0, 4), (2, 3)]), strengths, st.floats(0.05, 0.4), st.floats(0.0, 2.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(torsions, max_size=6), st.lists(pairs, max_size=3, unique_by=lambda p: p[0]), st.integers(0, 2**31))
def test_any_torsions_and_exceptions_are_those_of_openmm(wanted: list, special: list, seed: int) -> None:
    generator, system = np.random.default_rng(seed), System()
    bonded, nonbonded = openmm.PeriodicTorsionForce(), NonbondedForce()
    for _ in range(5):
        system.addParticle(10.0)
        nonbonded.addParticle(float(generator.normal()), 0.2, 1.0)
    for atoms, n, phase, strength in wanted:
        bonded.addTorsion(*atoms[:4], n, phase, strength)
    for atoms, charge, sigma, epsilon in special:
        nonbonded.addException(*atoms, charge, sigma, epsilon)
    system.addForce(bonded)
    system.addForce(nonbonded)
    corners = np.array([[0, 0, 0], [1, 0.2, 0], [0.1, 1, 0.3], [0, 0.1, 1], [1, 1, 1.2]]) * 0.4
    x = corners + generator.uniform(-0.05, 0.05, size=(5, 3))
    assert_alike(Mechanics.of([bonded, nonbonded], 5), system, x)


def test_a_straight_angle_has_finite_forces_and_no_direction() -> None:
    force = openmm.HarmonicAngleForce()
    force.addAngle(0, 1, 2, np.pi, 300.0)
    mechanics = Mechanics.of([force], 3)
    assert mechanics is not None
    energy, forces = by_us(mechanics, np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]]))
    assert energy == pytest.approx(0.0, abs=1e-9)
    assert np.abs(forces).max() < 1e-3


def of_vacuum(system: System, n: int = 22) -> Mechanics | None:
    return Mechanics.of(list(system.getForces()), n)


def test_only_forces_of_the_same_form_are_evaluated_together(ala2: Molecule) -> None:
    assert of_vacuum(build_system(ala2, Vacuum(), "hbonds", 1.5)) is not None
    assert of_vacuum(build_system(ala2, resolve("gbn2", PotentialRequest(ala2)), "hbonds", 1.5)) is None
    assert of_vacuum(build_system(ala2, Vacuum(), "hbonds", 1.5), n=21) is None
    cut = build_system(ala2, Vacuum(), "hbonds", 1.5)
    next(f for f in cut.getForces() if isinstance(f, NonbondedForce)).setNonbondedMethod(
        NonbondedForce.CutoffNonPeriodic
    )
    assert of_vacuum(cut) is None


@dataclass(frozen=True)
class Cut:
    """Mechanics with a cutoff, which the compiled loop does not know."""

    name: str = "cut"
    part: ClassVar[str] = "mechanics"

    def prepare(self, molecule: Molecule) -> Molecule:
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        add_force_field(system, molecule, app.CutoffNonPeriodic, placement, self.name)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def test_the_plan_says_what_is_evaluated_together_before_there_is_a_force(field: ForceField, ala2: Molecule) -> None:
    bare, own = skeleton(ala2, "hbonds", 1.5), LearnedPotential("learned:toy", "digest", field)

    def names(*terms: Potential, slow_group: int = 0) -> list[str]:
        return [term.name for term in plan(terms, bare, ala2, slow_group)]

    assert names(Vacuum(), own) == names(own, Vacuum()) == ["vacuum+learned:toy"]
    assert names(Vacuum(), GeneralizedBorn("obc2"), own) == ["obc2", "vacuum+learned:toy"]
    assert names(Vacuum(), own, slow_group=1) == ["vacuum", "learned:toy"]
    assert names(Cut(), own) == ["cut", "learned:toy"]
    assert names(Vacuum()) == ["vacuum"]
    assert bare.getNumForces() == 0
    # and what is evaluated apart is in the System as it is
    system = build_system(ala2, Sum("both", (Cut(), own)), "hbonds", 1.5)
    assert system.getNumForces() == 5
    energy = by_openmm(system, ala2.positions)[0]
    assert np.isfinite(energy)


def test_a_run_has_one_force_with_the_energy_of_both_parts(field: ForceField, ala2: Molecule) -> None:
    together = build_system(ala2, resolve("issnet:toy", PotentialRequest(ala2)), "hbonds", 1.5)
    assert [type(f) for f in together.getForces()] == [openmm.PythonForce]
    vacuum = build_system(ala2, Vacuum(), "hbonds", 1.5)
    (energy, forces), (mm, pushes) = by_openmm(together, ala2.positions), by_openmm(vacuum, ala2.positions)
    learned, pulls = field.bind(ala2).evaluate(ala2.positions[None])
    assert energy == pytest.approx(mm + learned[0], abs=1e-9)
    np.testing.assert_allclose(forces, pushes + pulls[0], atol=1e-8)
    again = by_openmm(copy.deepcopy(together), ala2.positions)
    assert again[0] == energy
    np.testing.assert_array_equal(again[1], forces)


def test_the_torch_bridge_leaves_the_mechanics_to_openmm(field: ForceField, ala2: Molecule) -> None:
    pytest.importorskip("openmmtorch")
    from mlsim.deploy.bridges.openmm_force import torchforce_problem

    if torchforce_problem() is not None:
        pytest.skip("TorchForce cannot be used here")
    system = build_system(ala2, resolve("issnet:toy", PotentialRequest(ala2, "torch")), "hbonds", 1.5)
    assert system.getNumForces() == 5


def test_mechanics_act_on_steps_that_the_network_skips(field: ForceField, ala2: Molecule) -> None:
    class Skipping(Impulses):
        def strength(self, state: openmm.State) -> int:
            return 0

    system = build_system(ala2, Vacuum(), "hbonds", 1.5)
    expected = by_openmm(system, ala2.positions)
    mechanics = of_vacuum(system)
    system = skeleton(ala2, "hbonds", 1.5)
    system.addForce(python_force(field.bind(ala2), 22, Skipping(2), mechanics))
    energy, forces = by_openmm(system, ala2.positions)
    assert energy == pytest.approx(expected[0], abs=1e-9)
    np.testing.assert_allclose(forces, expected[1], atol=1e-8)


def test_a_position_that_is_not_finite_is_an_error_and_a_copy_is_the_same(field: ForceField, ala2: Molecule) -> None:
    system = build_system(ala2, Vacuum(), "hbonds", 1.5)
    mechanics = of_vacuum(system)
    system = skeleton(ala2, "hbonds", 1.5)
    assert mechanics is not None
    twin = pickle.loads(pickle.dumps(mechanics))
    assert by_us(twin, ala2.positions)[0] == by_us(mechanics, ala2.positions)[0]
    system.addForce(python_force(field.bind(ala2), 22, None, mechanics))
    for spoilt in (np.nan, np.inf):
        x = ala2.positions.copy()
        x[4, 1] = spoilt
        assert not np.isfinite(by_us(mechanics, x)[0])
    met = ala2.positions.copy()
    met[0] = met[20]
    with pytest.raises(openmm.OpenMMException):
        by_openmm(system, met)
    assert "toy: energy" in str(callback.take())
