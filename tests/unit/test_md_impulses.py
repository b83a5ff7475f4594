"""Impulses: the slow force acts at every n-th step, n times as strong, and what is reported does not know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import Context, CustomExternalForce, Platform, System

from mlsim.chem.molecule import Molecule
from mlsim.deploy.bind import ForceField
from mlsim.deploy.bridges.openmm_force import Callback, python_force
from mlsim.deploy.potential import learned
from mlsim.errors import InputError
from mlsim.md.engines.replica_exchange import exchange
from mlsim.md.engines.single import simulate
from mlsim.md.integrator import canonical, impulses_for, langevin_middle
from mlsim.md.session import identity
from mlsim.md.settings import ExchangeSettings, RunSettings
from mlsim.potentials import callback
from mlsim.potentials.contract import Potential
from mlsim.potentials.impulses import ImpulseLangevin, Impulses
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from tests.toy_artifact import declared_verified, toy_artifact

REFERENCE = Platform.getPlatformByName("Reference")
SETTINGS = RunSettings(ns=4e-4, learned_every=2, platform="Reference", report_ps=0.02)


class Spring:
    """Evaluator of a harmonic well, E = k/2 r^2 for one atom."""

    n_atoms = 1

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def energy_forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.5 * self.strength * float((positions**2).sum()), -self.strength * positions


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceField:
    return ForceField(declared_verified(toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2)))


@pytest.fixture(scope="module")
def potential(field: ForceField) -> Potential:
    return learned("issnet:toy", field, "python")


def well(impulses: Impulses | None, slow: float, fast: float = 0.0) -> System:
    system = System()
    system.addParticle(10.0)
    system.addForce(openmm.PythonForce(Callback(Spring(slow), "spring", impulses)))
    outer = CustomExternalForce(f"{0.5 * fast}*(x^2+y^2+z^2)")
    outer.addParticle(0)
    system.addForce(outer)
    return system


def free(impulses: Impulses) -> ImpulseLangevin:
    return ImpulseLangevin(300.0, 1e-12, 0.004, impulses)


def test_two_steps_with_one_impulse_are_the_formula() -> None:
    impulses = Impulses(2)
    integrator = free(impulses)
    context = Context(well(impulses, slow=400.0), integrator, REFERENCE)
    x, v, dt, mass = 0.1, 0.3, 0.004, 10.0
    context.setPositions([[x, 0, 0]])
    context.setVelocities([[v, 0, 0]])
    for k in range(6):
        v += dt * (0.0 if k % 2 else 2.0 * -400.0 * x) / mass
        x += dt * v
        integrator.step(1)
        state = context.getState(getPositions=True, getVelocities=True)
        assert state.getPositions()[0].x == pytest.approx(x, abs=1e-8)
        assert state.getVelocities()[0].x == pytest.approx(v, abs=1e-6)


def test_every_one_is_the_plain_integrator_bit_for_bit(ala2: Molecule, potential: Potential) -> None:
    ends = []
    for impulses in (None, Impulses(1)):
        system = build_system(ala2, potential, "hbonds", 1.5, 0, impulses)
        settings = SETTINGS.model_copy(update={"learned_every": 1})
        integrator = canonical(settings, system, 3, impulses)
        context = Context(system, integrator, REFERENCE)
        context.setPositions(ala2.positions)
        context.setVelocitiesToTemperature(300.0, 1)
        integrator.step(50)
        ends.append(np.array(context.getState(getPositions=True).getPositions(asNumpy=True)._value))
    np.testing.assert_array_equal(*ends)


def test_reported_energy_and_forces_are_whole_at_every_step(ala2: Molecule, potential: Potential) -> None:
    impulses = Impulses(3)
    system = build_system(ala2, potential, "hbonds", 1.5, 0, impulses)
    plain = Context(build_system(ala2, potential, "hbonds", 1.5), langevin_middle(300.0, 1.0, 0.004, 1), REFERENCE)
    integrator = canonical(SETTINGS.model_copy(update={"learned_every": 3}), system, 3, impulses)
    context = Context(system, integrator, REFERENCE)
    context.setPositions(ala2.positions)
    for _ in range(4):
        integrator.step(1)
        state = context.getState(getPositions=True, getEnergy=True, getForces=True)
        plain.setPositions(state.getPositions(asNumpy=True))
        expected = plain.getState(getEnergy=True, getForces=True)
        assert state.getPotentialEnergy()._value == expected.getPotentialEnergy()._value
        np.testing.assert_array_equal(state.getForces(asNumpy=True)._value, expected.getForces(asNumpy=True)._value)


def test_the_kernel_is_not_called_on_skipped_steps(field: ForceField, ala2: Molecule) -> None:
    calls = []

    class Counting(Callback):
        def _quickly(self, *arguments: Any) -> Any:
            calls.append(1)
            return super()._quickly(*arguments)

    impulses = Impulses(4)
    system = build_system(ala2, Vacuum(), "hbonds", 1.5)
    system.addForce(openmm.PythonForce(Counting(field.bind(ala2).evaluator, "toy", impulses)))
    integrator = free(impulses)
    context = Context(system, integrator, REFERENCE)
    context.setPositions(ala2.positions)
    integrator.step(8)
    assert len(calls) == 2


def test_a_stiff_well_samples_its_temperature() -> None:
    """Fast well 40,000, slow well 4,000 kJ/mol/nm^2, 10 Da: <x^2> = kT / (k_fast + k_slow) within 4 %."""
    impulses = Impulses(2)
    integrator = ImpulseLangevin(300.0, 10.0, 0.004, impulses)
    integrator.setRandomNumberSeed(5)
    context = Context(well(impulses, 4000.0, 40000.0), integrator, REFERENCE)
    context.setPositions([[0.0, 0, 0]])
    squares = []
    for _ in range(6000):
        integrator.step(10)
        squares.append((context.getState(getPositions=True).getPositions(asNumpy=True)._value ** 2).mean())
    assert np.mean(squares[100:]) == pytest.approx(0.0083145 * 300 / 44000.0, rel=0.04)


def test_an_interrupted_run_keeps_the_rhythm(ala2: Molecule, potential: Potential, tmp_path: Path) -> None:
    odd = SETTINGS.model_copy(update={"ns": 1.24e-4})  # 31 steps: the cut falls between two impulses
    simulate(ala2, potential, SETTINGS, tmp_path / "whole", 5)
    simulate(ala2, potential, odd, tmp_path / "cut", 5)
    simulate(ala2, potential, SETTINGS, tmp_path / "cut", 5, "resume")
    for name in ("log.csv", "trajectory.xtc"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_what_cannot_act_so_is_refused(ala2: Molecule, field: ForceField, potential: Potential) -> None:
    with pytest.raises(InputError, match="learned_every 2: solvent 'issnet' has no learned force"):
        impulses_for(SETTINGS, Vacuum())
    with pytest.raises(InputError, match=r"learned_every 2: .*runs through Python"):
        impulses_for(SETTINGS, learned("issnet:toy", field, "torch"))
    with pytest.raises(InputError, match="choose one of them"):
        impulses_for(SETTINGS.model_copy(update={"mts_inner_steps": 2}), potential)
    with pytest.raises(InputError, match="at least 1 step"):
        Impulses(0)
    assert impulses_for(SETTINGS.model_copy(update={"learned_every": 1}), Vacuum()) is None


def test_another_rhythm_is_another_run(ala2: Molecule) -> None:
    found = {identity(SETTINGS.model_copy(update={"learned_every": n}), ala2, Vacuum(), None, 1) for n in (1, 2, 3)}
    assert len(found) == 3


def test_an_error_while_stepping_ends_the_stepping(ala2: Molecule, field: ForceField) -> None:
    impulses = Impulses(2)
    system = build_system(ala2, Vacuum(), "hbonds", 1.5)
    system.addForce(python_force(field.bind(ala2), ala2.n_atoms, impulses))
    integrator = free(impulses)
    context = Context(system, integrator, REFERENCE)
    x = ala2.positions.copy()
    x[3, 0] = np.nan
    context.setPositions(x)
    with pytest.raises(openmm.OpenMMException):
        integrator.step(1)
    assert callback.take() is not None
    assert impulses.strength(context.getState(getPositions=True)) == 1


def test_replica_exchange_keeps_the_rhythm_through_its_segments(
    ala2: Molecule, potential: Potential, tmp_path: Path
) -> None:
    """Segments of 5 steps, impulses every 2: whole, or stopped and resumed, the run is the same; plain, it is not."""
    values = {"ns": 8e-5, "learned_every": 2, "platform": "Reference", "report_ps": 0.02, "exchange_ps": 0.02}
    settings = ExchangeSettings.parse({**values, "temperatures_K": (300.0, 320.0)})
    exchange(ala2, potential, settings, tmp_path / "whole", 5)
    exchange(ala2, potential, settings.model_copy(update={"ns": 2e-5}), tmp_path / "cut", 5)
    exchange(ala2, potential, settings, tmp_path / "cut", 5, "resume")
    exchange(ala2, potential, settings.model_copy(update={"learned_every": 1}), tmp_path / "plain", 5)
    logs = [(tmp_path / name / "state-01" / "log.csv").read_text() for name in ("whole", "cut", "plain")]
    assert logs[0] == logs[1] != logs[2]
