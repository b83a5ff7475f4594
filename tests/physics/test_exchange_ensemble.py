"""Replica exchange samples the canonical distribution at every temperature: an exactly known case.

66 harmonic degrees of freedom: the potential energy at T is gamma distributed with shape 33 and scale kT.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openmm import CustomExternalForce, System
from scipy import stats

from mlsim.chem.molecule import Molecule
from mlsim.md.engines.ladder import log_acceptance
from mlsim.md.engines.replica_exchange import LOG, exchange
from mlsim.md.settings import ExchangeSettings
from mlsim.potentials.placement import Placement
from mlsim.units import kT

TEMPERATURES = (300.0, 345.0, 400.0)
SHAPE = 3 * 22 / 2
WARM, ATTEMPTS = 20, 620


@dataclass(frozen=True)
class Wells:
    """Every atom in its own harmonic well at the origin, 1000 kJ/mol/nm^2."""

    name: str = "wells"

    def prepare(self, molecule: Molecule) -> Molecule:
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        force = CustomExternalForce("500*(x^2+y^2+z^2)")
        for k in range(molecule.n_atoms):
            force.addParticle(k)
        system.addForce(force)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture(scope="module")
def result(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    directory: Path = tmp_path_factory.mktemp("wells") / "r"
    settings = ExchangeSettings(
        ns=ATTEMPTS * 4e-4,
        temperatures_K=TEMPERATURES,
        exchange_ps=0.4,
        report_ps=0.4,
        timestep_fs=10.0,
        friction_per_ps=10.0,
        constraints="none",
        platform="Reference",
    )
    ladder = exchange(ala2, Wells(), settings, directory, 3).ladder
    with open(directory / LOG, newline="") as handle:
        rows = np.array(list(csv.reader(handle))[1 + WARM :], dtype=float)
    return rows[:, 1:4], ladder.accepted / ladder.attempted


def test_energies_at_every_temperature_have_the_exact_distribution(result: tuple[np.ndarray, np.ndarray]) -> None:
    for energies, temperature in zip(result[0].T, TEMPERATURES, strict=True):
        thermal = kT(temperature)
        error = np.sqrt(SHAPE / (len(energies) / 2)) * thermal  # successive attempts are nearly independent
        assert abs(energies.mean() - SHAPE * thermal) < 4 * error
        assert energies.std() == pytest.approx(np.sqrt(SHAPE) * thermal, rel=0.15)
        assert stats.kstest(energies[::2], stats.gamma(SHAPE, scale=thermal).cdf).pvalue > 1e-3


def test_acceptance_is_that_of_independent_exact_draws(result: tuple[np.ndarray, np.ndarray]) -> None:
    generator = np.random.default_rng(1)
    for k, (low, high) in enumerate(itertools.pairwise(TEMPERATURES)):
        a, b = (generator.gamma(SHAPE, kT(t), 4000) for t in (low, high))
        expected = np.mean([min(1.0, np.exp(log_acceptance(low, high, u, v))) for u, v in zip(a, b, strict=True)])
        assert 0.1 < expected < 0.9
        assert result[1][k] == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / (ATTEMPTS / 2)))
