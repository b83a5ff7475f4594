"""Integrators: Langevin middle for canonical runs, the same with a multiple time step, Verlet for energy conservation.

Langevin middle (BAOA; Zhang et al. 2019) is the default. ``mts_inner_steps: n`` above 1 splits the forces (BAOAB-RESPA,
Lagardere et al. 2019): the smooth solvent term acts every time step dt, the molecular mechanics every dt / n:

    v += dt/2 f_slow/m;  n x { v += d/2 f/m;  x += d/2 v;  v = a v + b sqrt(kT/m) g;  x += d/2 v;  v += d/2 f/m }
    v += dt/2 f_slow/m          d = dt/n,  a = exp(-gamma d),  b = sqrt(1 - a^2)

Why it is not the default. Alanine dipeptide with the compiled ISSNet, one core, ns/day of processor time and kinetic
temperature at 300 K over 100 ps, (dt in fs, n): (4, 1) 6440, 298(6) K; (4, 2) 3380, 289(6) K; (6, 2) 5020, 274(5) K;
(8, 2) 6130, 274(5) K. The solvent costs too little to be worth saving beside the overhead of a CustomIntegrator, and
on-step velocities of BAOAB read too cold at inner steps of 3-4 fs. It pays where the solvent term is most of a step,
as for generalized Born.
"""

from __future__ import annotations

from openmm import Integrator, LangevinMiddleIntegrator, MTSLangevinIntegrator, System, VerletIntegrator, unit

from mlsim.errors import InputError
from mlsim.md.settings import RunSettings

#: Relative tolerance of bond constraints. 1e-6 keeps the drift of a 4 fs run far below the thermostat's noise.
CONSTRAINT_TOLERANCE = 1e-6
#: Force group of the smooth solvent terms of a run with a multiple time step.
SLOW_GROUP = 1


def canonical(settings: RunSettings, system: System, seed: int) -> Integrator:
    """The integrator that ``settings`` ask for, with a fixed random seed (1 .. 2^31 - 1).

    Raises
    ------
    InputError
        If a multiple time step would save nothing, because no force of ``system`` is in ``SLOW_GROUP``.
    """
    s = settings
    if s.mts_inner_steps == 1:
        return langevin_middle(s.temperature_K, s.friction_per_ps, s.timestep_ps, seed)
    used = {force.getForceGroup() for force in system.getForces()}
    if SLOW_GROUP not in used or len(used) == 1:
        raise InputError(
            f"mts_inner_steps {s.mts_inner_steps}: solvent '{s.solvent}' is not a slow term beside fast ones; use 1, "
            "or a learned or generalized Born solvent"
        )
    groups = [(SLOW_GROUP, 1), *((group, s.mts_inner_steps) for group in sorted(used - {SLOW_GROUP}))]
    return langevin_multiple(s.temperature_K, s.friction_per_ps, s.timestep_ps, groups, seed)


def langevin_middle(
    temperature_K: float, friction_per_ps: float, timestep_ps: float, seed: int
) -> LangevinMiddleIntegrator:
    """Langevin middle integrator with a fixed random seed (1 .. 2^31 - 1)."""
    integrator = LangevinMiddleIntegrator(
        temperature_K * unit.kelvin, friction_per_ps / unit.picosecond, timestep_ps * unit.picosecond
    )
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    integrator.setRandomNumberSeed(seed)
    return integrator


def langevin_multiple(
    temperature_K: float, friction_per_ps: float, timestep_ps: float, groups: list[tuple[int, int]], seed: int
) -> MTSLangevinIntegrator:
    """Langevin with a multiple time step; ``groups`` are (force group, evaluations per step)."""
    integrator = MTSLangevinIntegrator(
        temperature_K * unit.kelvin, friction_per_ps / unit.picosecond, timestep_ps * unit.picosecond, groups
    )
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    integrator.setRandomNumberSeed(seed)
    return integrator


def verlet(timestep_ps: float) -> VerletIntegrator:
    """Leapfrog Verlet, NVE."""
    integrator = VerletIntegrator(timestep_ps * unit.picosecond)
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    return integrator
