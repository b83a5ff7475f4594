"""The run verb samples the canonical ensemble, and Verlet keeps the energy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import physical_validation as pv
import pytest
from openmm import Context, Platform, System

from mlsim.chem.molecule import Molecule
from mlsim.md.engines.single import simulate
from mlsim.md.integrator import verlet
from mlsim.md.settings import RunSettings
from mlsim.md.stability import degrees_of_freedom
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.units import GAS_CONSTANT, kT

WARM = 100  # frames of the start that are not used


def sample(ala2: Molecule, directory: Path, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray, System]:
    settings = RunSettings(solvent="vacuum", ns=1.2, temperature_K=temperature, friction_per_ps=5.0, report_ps=0.5)
    replica = simulate(ala2, Vacuum(), settings, directory, seed).replica
    return (
        replica.potential()[WARM:],
        replica.column("kinetic_kJ_mol")[WARM:],
        build_system(ala2, Vacuum(), "hbonds", settings.hydrogen_mass_Da),
    )


@pytest.fixture(scope="module")
def samples(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    place = tmp_path_factory.mktemp("ensemble")
    return {t: sample(ala2, place / f"{t:.0f}", t, k + 1)[:2] for k, t in enumerate((300.0, 330.0))}


def test_kinetic_energy_has_the_canonical_mean_and_spread(ala2: Molecule, samples: dict) -> None:
    dof = degrees_of_freedom(build_system(ala2, Vacuum(), "hbonds", 1.5))
    assert dof == 3 * 22 - 12
    for temperature, (_, kinetic) in samples.items():
        mean, spread = dof * kT(temperature) / 2, np.sqrt(dof / 2) * kT(temperature)
        error = spread / np.sqrt(len(kinetic) / 2)  # frames 0.5 ps apart at 5/ps friction are nearly independent
        assert abs(kinetic.mean() - mean) < 4 * error
        assert kinetic.std() == pytest.approx(spread, rel=0.1)


def test_kinetic_energy_distribution_passes_physical_validation(ala2: Molecule, samples: dict) -> None:
    for temperature, (potential, kinetic) in samples.items():
        p_value = pv.kinetic_energy.distribution(
            observed(ala2, potential, kinetic, temperature), strict=True, verbosity=0
        )
        assert p_value > 1e-3


def test_energies_at_two_temperatures_have_the_boltzmann_ratio(ala2: Molecule, samples: dict) -> None:
    first, second = (observed(ala2, *samples[t], t) for t in (300.0, 330.0))
    deviation = pv.ensemble.check(first, second, total_energy=False, verbosity=0)
    assert max(abs(d) for d in deviation) < 4.0  # standard errors of the fitted slope


def observed(ala2: Molecule, potential: np.ndarray, kinetic: np.ndarray, temperature: float) -> pv.data.SimulationData:
    units = pv.data.UnitData(
        kb=GAS_CONSTANT,
        energy_conversion=1,
        length_conversion=1,
        volume_conversion=1,
        temperature_conversion=1,
        pressure_conversion=1,
        time_conversion=1,
        energy_str="kJ/mol",
        length_str="nm",
        volume_str="nm^3",
        temperature_str="K",
        pressure_str="bar",
        time_str="ps",
    )
    system = pv.data.SystemData(
        natoms=22, nconstraints=12, ndof_reduction_tra=0, ndof_reduction_rot=0, mass=ala2.masses
    )
    return pv.data.SimulationData(
        units=units,
        ensemble=pv.data.EnsembleData("NVT", natoms=22, volume=1.0, temperature=temperature),
        system=system,
        observables=pv.data.ObservableData(
            kinetic_energy=kinetic, potential_energy=potential, total_energy=kinetic + potential
        ),
        dt=0.5,
    )


def test_verlet_error_falls_with_the_square_of_the_time_step(ala2: Molecule) -> None:
    system = build_system(ala2, Vacuum(), "none", 1.0)
    spread = {}
    for step in (0.0005, 0.00025):
        integrator = verlet(step)
        context = Context(system, integrator, Platform.getPlatformByName("Reference"))
        context.setPositions(ala2.positions)
        context.setVelocitiesToTemperature(300.0, 1)
        integrator.step(round(1.0 / step))
        energies = []
        for _ in range(400):
            integrator.step(round(0.005 / step))
            state = context.getState(getEnergy=True)
            energies.append(state.getKineticEnergy()._value + state.getPotentialEnergy()._value)
        spread[step] = np.std(energies)
    assert spread[0.0005] / spread[0.00025] == pytest.approx(4.0, rel=0.35)
