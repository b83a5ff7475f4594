"""Integrators: Langevin middle (BAOA; Zhang et al. 2019) for canonical runs, Verlet for energy conservation."""

from __future__ import annotations

from openmm import LangevinMiddleIntegrator, VerletIntegrator, unit

#: Relative tolerance of bond constraints. 1e-6 keeps the drift of a 4 fs run far below the thermostat's noise.
CONSTRAINT_TOLERANCE = 1e-6


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


def verlet(timestep_ps: float) -> VerletIntegrator:
    """Leapfrog Verlet, NVE."""
    integrator = VerletIntegrator(timestep_ps * unit.picosecond)
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    return integrator
