"""The contract of a potential: subclass ``PotentialContract`` once per potential and every claim below is tested."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from openmm import Context, Platform, VerletIntegrator
from scipy.spatial.transform import Rotation

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system


class PotentialContract:
    """What every potential promises (:class:`mlsim.potentials.contract.Potential`).

    Subclasses set ``specification``, the name by which users ask for it, or replace :meth:`potential`; one that is made
    for another molecule than alanine dipeptide replaces :meth:`solute`.
    """

    specification: str
    force_tolerance = 1e-4
    force_floor = 0.05  # kJ/mol/nm
    step_nm = 1e-5

    @pytest.fixture
    def solute(self) -> Molecule:
        return load_system("alanine-dipeptide")

    @pytest.fixture
    def potential(self, solute: Molecule) -> Potential:
        return resolve(self.specification, PotentialRequest(solute))

    @pytest.fixture
    def molecule(self, solute: Molecule, potential: Potential) -> Molecule:
        return potential.prepare(solute)

    @pytest.fixture
    def context(self, molecule: Molecule, potential: Potential) -> Context:
        system = build_system(molecule, potential, "none", 1.0)
        return Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))

    def energy(self, context: Context, positions: np.ndarray) -> float:
        context.setPositions(positions)
        return float(context.getState(getEnergy=True).getPotentialEnergy()._value)

    def forces(self, context: Context, positions: np.ndarray) -> np.ndarray:
        context.setPositions(positions)
        return np.array(context.getState(getForces=True).getForces(asNumpy=True)._value)

    def displacement(self, generator: np.random.Generator, n: int) -> np.ndarray:
        return generator.normal(size=(n, 3))

    def test_solute_comes_first_and_in_the_same_order(self, solute: Molecule, molecule: Molecule) -> None:
        assert molecule.atom_names[: solute.n_atoms] == solute.atom_names
        np.testing.assert_array_equal(molecule.solute, np.arange(solute.n_atoms))

    def test_description_is_json_and_names_no_path(self, potential: Potential) -> None:
        text = json.dumps(potential.describe())
        assert potential.name in text
        assert "/root" not in text
        assert "/home" not in text
        assert re.search(r'"(/|[A-Za-z]:\\\\)', text) is None, "absolute path"

    def test_forces_are_minus_the_gradient_along_random_directions(self, context: Context, molecule: Molecule) -> None:
        generator = np.random.default_rng(0)
        x = molecule.positions
        forces = self.forces(context, x)
        delta = self.step_nm
        for _ in range(3):
            direction = np.zeros_like(x)
            direction[molecule.solute] = self.displacement(generator, len(molecule.solute))
            rise = self.energy(context, x + delta * direction) - self.energy(context, x - delta * direction)
            expected = -float((forces * direction).sum())
            assert rise / (2 * delta) == pytest.approx(expected, rel=self.force_tolerance, abs=self.force_floor)

    def test_energy_is_finite_and_repeatable(self, context: Context, molecule: Molecule) -> None:
        first = self.energy(context, molecule.positions)
        assert np.isfinite(first)
        assert self.energy(context, molecule.positions) == first


class ImplicitPotentialContract(PotentialContract):
    """Without a box the energy must not depend on where and how the molecule lies."""

    invariance = 1e-8

    def test_energy_is_invariant_under_rigid_motion(self, context: Context, molecule: Molecule) -> None:
        rotation = Rotation.random(random_state=1).as_matrix()
        moved = molecule.positions @ rotation.T + np.array([0.3, -1.0, 2.0])
        expected = self.energy(context, molecule.positions)
        assert self.energy(context, moved) == pytest.approx(expected, rel=self.invariance, abs=1e-6)

    def test_net_force_vanishes(self, context: Context, molecule: Molecule) -> None:
        forces = self.forces(context, molecule.positions)
        assert np.abs(forces.sum(axis=0)).max() < 1e-6 * np.abs(forces).max() + self.invariance * 1e3
