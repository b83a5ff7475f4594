"""Integrators: Langevin middle for canonical runs, the same with a multiple time step, Verlet for energy conservation.

Langevin middle (BAOA; Zhang et al. 2019) is the default. ``mts_inner_steps: n`` above 1 splits the forces (BAOAB-RESPA,
Lagardere et al. 2019): the smooth solvent term acts every time step dt, the molecular mechanics every dt / n:

    v += dt/2 f_slow/m;  n x { v += d/2 f/m;  x += d/2 v;  v = a v + b sqrt(kT/m) g;  x += d/2 v;  v += d/2 f/m }
    v += dt/2 f_slow/m          d = dt/n,  a = exp(-gamma d),  b = sqrt(1 - a^2)

Why it is not the default. 300 K, friction 5/ps, 800 ps, alanine dipeptide with the compiled ISSNet; ns/day of processor
time on one busy core; kinetic temperature and potential energy with standard errors. Chignolin: speed only.

==============  ========  ===========  ==============  ==================  =====================
dt (fs), inner  ns/day    kinetic (K)  <U> (kJ/mol)    spread of U         chignolin, ns/day
==============  ========  ===========  ==============  ==================  =====================
2, 1            4000      303(2)       10.6(4)         12.5
4, 1            7900      299(2)       10.2(4)         12.5                275
4, 2            4000      290(2)       10.0(4)         12.4                163
8, 2            7700      265(2)       10.8(4)         12.0                342
==============  ========  ===========  ==============  ==================  =====================

The compiled network is too cheap beside the overhead of a CustomIntegrator for a gain at 22 atoms; at 166 atoms an
outer step of 8 fs gains a factor of 1.25. Configurations keep their energies within the errors, but the on-step
velocities of BAOAB read 12 % too cold at inner steps of 4 fs, so a plain 4 fs step stays the default.

``learned_every: n`` has neither cost: the Langevin middle step stays, and a learned solvent acts at every n-th step, n
times as strong (:mod:`mlsim.potentials.impulses`). Drift of the total energy without friction, alanine dipeptide, 30 ps
from four canonical starts each, kT/ns per degree of freedom with standard errors:

=============  ============  ============  ============  ============
dt (fs)        every 1       every 2       every 3       every 4
=============  ============  ============  ============  ============
4, H 1.5 Da    -0.3(2)        1.3(6)        52(10)
4, H 3.0 Da     0.0(3)        0.2(4)        10(2)
2, H 1.5 Da     0.0(2)        0.0(2)                      0.3(3)
=============  ============  ============  ============  ============

A friction of 1/ps takes out 1.3 kT/ns at the price of 0.4 K; at 12 fs the impulses are in resonance with the C=O
stretch (period 20 fs) and heat by 20 K. In canonical runs at 4 fs and 1.5 Da the kinetic temperature is 301.0(3) K with
every 1 (3 x 10 ns) and 302.8(9) K with every 2 (2 x 5 ns); their mean potential energies agree within 1 kJ/mol, and the
shorter run is too short to tell their free energies apart or alike (``benchmarks/timestep.py``). So every 1 is the
default, and every 2 a choice for those who can live with a degree or two, or take hydrogens of 3 Da.
"""

from __future__ import annotations

from typing import TypeVar

from openmm import Integrator, LangevinMiddleIntegrator, MTSLangevinIntegrator, System, VerletIntegrator, unit

from mlsim.errors import InputError
from mlsim.md.settings import Canonical, Dynamics
from mlsim.potentials.contract import Potential, is_impulsive, terms_of
from mlsim.potentials.impulses import ImpulseLangevin, Impulses

I = TypeVar("I", LangevinMiddleIntegrator, ImpulseLangevin, MTSLangevinIntegrator)
#: Relative tolerance of bond constraints. 1e-6 keeps the drift of a 4 fs run far below the thermostat's noise.
CONSTRAINT_TOLERANCE = 1e-6
#: Force group of the smooth solvent terms of a run with a multiple time step.
SLOW_GROUP = 1


def canonical(settings: Canonical, system: System, seed: int, impulses: Impulses | None = None) -> Integrator:
    """The integrator that ``settings`` ask for, with a fixed random seed (1 .. 2^31 - 1).

    Parameters
    ----------
    impulses : Impulses, optional
        The rhythm that ``system`` was built with.

    Raises
    ------
    InputError
        If a multiple time step would save nothing, because no force of ``system`` is in ``SLOW_GROUP``.
    """
    s = settings
    if impulses is not None:
        engine = ImpulseLangevin(s.temperature_K, s.friction_per_ps, s.timestep_ps, impulses)
        return _seeded(engine, seed)
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


def slow_group(settings: Dynamics) -> int:
    """Force group of smooth solvent terms: their own with a multiple time step, else that of all others."""
    return SLOW_GROUP if settings.mts_inner_steps > 1 else 0


def impulses_for(settings: Dynamics, potential: Potential) -> Impulses | None:
    """The rhythm that ``settings`` ask for; None if every force acts at every step.

    Raises
    ------
    InputError
        If impulses are asked for and no term of ``potential`` can act so, or together with a multiple time step.
    """
    every = settings.learned_every
    if every == 1:
        return None
    if settings.mts_inner_steps > 1:
        raise InputError(f"learned_every {every} and mts_inner_steps {settings.mts_inner_steps}: choose one of them")
    if not any(is_impulsive(term) for term in terms_of(potential)):
        raise InputError(
            f"learned_every {every}: solvent '{settings.solvent}' has no learned force that runs through Python; use 1"
        )
    return Impulses(every)


def langevin_middle(
    temperature_K: float, friction_per_ps: float, timestep_ps: float, seed: int
) -> LangevinMiddleIntegrator:
    """Langevin middle integrator with a fixed random seed (1 .. 2^31 - 1)."""
    return _seeded(
        LangevinMiddleIntegrator(
            temperature_K * unit.kelvin, friction_per_ps / unit.picosecond, timestep_ps * unit.picosecond
        ),
        seed,
    )


def langevin_multiple(
    temperature_K: float, friction_per_ps: float, timestep_ps: float, groups: list[tuple[int, int]], seed: int
) -> MTSLangevinIntegrator:
    """Langevin with a multiple time step; ``groups`` are (force group, evaluations per step)."""
    return _seeded(
        MTSLangevinIntegrator(
            temperature_K * unit.kelvin, friction_per_ps / unit.picosecond, timestep_ps * unit.picosecond, groups
        ),
        seed,
    )


def verlet(timestep_ps: float) -> VerletIntegrator:
    """Leapfrog Verlet, NVE."""
    integrator = VerletIntegrator(timestep_ps * unit.picosecond)
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    return integrator


def _seeded(integrator: I, seed: int) -> I:
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    integrator.setRandomNumberSeed(seed)
    return integrator
