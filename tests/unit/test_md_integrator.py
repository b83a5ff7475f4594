"""Multiple time step: which forces are slow, what is refused, and that the dynamics is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openmm import Context, Platform

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.md.engines.single import simulate
from mlsim.md.integrator import SLOW_GROUP, canonical, langevin_multiple
from mlsim.md.session import identity
from mlsim.md.settings import RunSettings
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.dihedral_bias import BIAS_GROUP, DihedralBias
from mlsim.potentials.named import FACTORIES
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum

MTS = RunSettings(ns=1e-4, solvent="obc2", timestep_fs=4.0, mts_inner_steps=2, platform="Reference", report_ps=0.02)


@pytest.fixture(scope="module")
def obc2(ala2: Molecule) -> Potential:
    return FACTORIES["obc2"](None, PotentialRequest(ala2))


def test_only_the_solvent_term_is_slow(ala2: Molecule, obc2: Potential) -> None:
    system = build_system(ala2, obc2, "hbonds", 1.5, SLOW_GROUP)
    groups = {force.getName(): force.getForceGroup() for force in system.getForces()}
    assert groups["GBSAOBCForce"] == SLOW_GROUP
    assert {group for name, group in groups.items() if name != "GBSAOBCForce"} == {0}
    plain = build_system(ala2, obc2, "hbonds", 1.5)
    assert {force.getForceGroup() for force in plain.getForces()} == {0}


def test_a_step_without_a_slow_force_is_refused(ala2: Molecule) -> None:
    system = build_system(ala2, Vacuum(), "hbonds", 1.5, SLOW_GROUP)
    with pytest.raises(InputError, match="mts_inner_steps 2: solvent 'vacuum' is not a slow term"):
        canonical(MTS.model_copy(update={"solvent": "vacuum"}), system, 1)


def test_a_bias_acts_with_the_fast_forces(ala2: Molecule, obc2: Potential) -> None:
    system = build_system(ala2, obc2, "hbonds", 1.5, SLOW_GROUP)
    DihedralBias(ala2, 300.0).add_to(system)
    integrator = canonical(MTS, system, 1)
    steps = [integrator.getComputationStep(k)[2] for k in range(integrator.getNumComputations())]
    used = {group: sum(f"*f{group}/" in expression for expression in steps) for group in (0, SLOW_GROUP, BIAS_GROUP)}
    assert used == {0: 4, SLOW_GROUP: 2, BIAS_GROUP: 4}


def test_without_friction_the_energy_is_kept(ala2: Molecule, obc2: Potential) -> None:
    system = build_system(ala2, obc2, "none", 1.5, SLOW_GROUP)
    integrator = langevin_multiple(300.0, 1e-12, 0.001, [(SLOW_GROUP, 1), (0, 2)], 1)
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(ala2.positions)
    context.setVelocitiesToTemperature(300.0, 2)
    energies = []
    for _ in range(40):
        integrator.step(5)
        state = context.getState(getEnergy=True)
        energies.append(state.getKineticEnergy()._value + state.getPotentialEnergy()._value)
    assert np.ptp(energies) < 1.0  # kJ/mol; kinetic energy is about 80


def test_the_default_leaves_the_identity_of_earlier_runs(ala2: Molecule) -> None:
    plain, explicit = RunSettings(ns=1.0), RunSettings(ns=1.0, mts_inner_steps=1)
    assert identity(plain, ala2, Vacuum(), None, 1) == identity(explicit, ala2, Vacuum(), None, 1)
    other = RunSettings(ns=1.0, mts_inner_steps=2)
    assert identity(other, ala2, Vacuum(), None, 1) != identity(plain, ala2, Vacuum(), None, 1)


def test_an_interrupted_run_with_a_multiple_time_step_resumes_exactly(
    ala2: Molecule, obc2: Potential, tmp_path: Path
) -> None:
    simulate(ala2, obc2, MTS, tmp_path / "whole", 5)
    simulate(ala2, obc2, MTS.model_copy(update={"ns": 4e-5}), tmp_path / "cut", 5)
    simulate(ala2, obc2, MTS, tmp_path / "cut", 5, "resume")
    for name in ("log.csv", "trajectory.xtc"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
