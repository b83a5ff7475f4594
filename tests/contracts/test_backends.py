"""One artifact, every backend, every bridge, one result."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.deploy.bind import ForceField
from mlsim.deploy.bridges.openmm_force import make_force, torchforce_problem
from tests.toy_artifact import toy_artifact

PRECISIONS = [("float64", 2e-5), ("float32", 3e-5)]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceField:
    return ForceField(toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2))


@pytest.fixture(scope="module")
def positions(ala2: Molecule) -> np.ndarray:
    generator = np.random.default_rng(2)
    return ala2.positions + 0.01 * generator.normal(size=(5, ala2.n_atoms, 3))


@pytest.fixture(scope="module")
def exact(field: ForceField, ala2: Molecule, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return field.bind(ala2, "eager", "float64").evaluate(positions)


class BackendContract:
    """What every way of computing a force field must do."""

    backend: Any

    @pytest.mark.parametrize(("precision", "bound"), PRECISIONS)
    def test_energy_and_forces_are_the_network_s(
        self, field: ForceField, ala2: Molecule, positions: np.ndarray, exact: Any, precision: Any, bound: float
    ) -> None:
        energies, forces = field.bind(ala2, self.backend, precision).evaluate(positions)
        assert np.abs(energies - exact[0]).max() < bound * np.abs(exact[0]).max()
        assert np.abs(forces - exact[1]).max() < 5 * bound * np.sqrt(np.mean(exact[1] ** 2))

    def test_one_conformation_is_a_batch_of_one(self, field: ForceField, ala2: Molecule, positions: np.ndarray) -> None:
        bound = field.bind(ala2, self.backend, "float64")
        energies, forces = bound.evaluate(positions)
        energy, force = bound.evaluator.energy_forces(positions[2])
        assert energy == pytest.approx(energies[2], rel=1e-12)
        np.testing.assert_allclose(force, forces[2], rtol=1e-9, atol=1e-9)

    def test_argument_is_not_changed(self, field: ForceField, ala2: Molecule, positions: np.ndarray) -> None:
        before = positions.copy()
        field.bind(ala2, self.backend).evaluate(positions)
        np.testing.assert_array_equal(before, positions)

    def test_openmm_sees_the_same_energy_and_forces(
        self, field: ForceField, ala2: Molecule, positions: np.ndarray, exact: Any
    ) -> None:
        for bridge in self.bridges():
            system = openmm.System()
            for mass in ala2.masses:
                system.addParticle(mass)
            system.addForce(make_force(field, ala2, bridge, self.backend, "float64"))
            context = openmm.Context(
                system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
            )
            for k, x in enumerate(positions):
                context.setPositions(x)
                state = context.getState(getEnergy=True, getForces=True)
                assert state.getPotentialEnergy()._value == pytest.approx(exact[0][k], rel=1e-6)
                error = state.getForces(asNumpy=True)._value - exact[1][k]
                assert np.sqrt(np.mean(error**2)) < 2e-5 * np.sqrt(np.mean(exact[1] ** 2))

    def bridges(self) -> list[Any]:
        """Bridges this backend can go over here."""
        if self.backend == "torchscript" and torchforce_problem() is None:
            return ["python", "torch"]
        return ["python"]


class TestEager(BackendContract):
    backend = "eager"


class TestTorchScript(BackendContract):
    backend = "torchscript"


class TestCompiled(BackendContract):
    backend = "compiled"


class TestStatic(BackendContract):
    """On the CPU; what a CUDA graph holds."""

    backend = "static"
