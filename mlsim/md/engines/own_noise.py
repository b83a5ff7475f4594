"""Langevin middle for copies of a molecule in one Context, each degree of freedom with its own random stream.

OpenMM's integrators draw the noise of all atoms from one stream, so what an atom gets depends on how many there are.
Here every degree of freedom carries the six numbers of an MRG32k3a generator (L'Ecuyer 1999), started from the seed of
its copy, its atom and its axis; a copy then has the same noise however many move beside it, on any platform:

    p1 = (1403580 s11 - 810728 s10) mod m1        s10, s11, s12 <- s11, s12, p1
    p2 = (527612 s22 - 1370589 s20) mod m2        s20, s21, s22 <- s21, s22, p2        u = ((p1 - p2) mod m1) / (m1 + 1)

The largest product, 1403580 m1 = 6e15, is below 2^53, so float64 holds all of it exactly (GPUs: mixed precision does).
Two draws make one normal number, g = sqrt(-2 ln u1) cos(2 pi u2). The step is that of LangevinMiddleIntegrator:

    v += dt f/m;  x += dt/2 v;  v = a v + sqrt(kT (1 - a^2) / m) g;  x += dt/2 v;  constraints        a = exp(-gamma dt)

The interpreter of CustomIntegrator makes a vacuum step on a CPU about six times as costly as the built-in integrator
does; on a GPU it is a few more operations in a kernel that waits for memory. Constraints: the Reference and CPU
platforms iterate them until the last copy has converged, so there the paths of a copy agree to the constraint
tolerance, not bit for bit; clusters on GPUs converge one by one.

Symbols: s ``s10`` .. ``s22``; u ``u``; g ``noise``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from openmm import CustomIntegrator

from mlsim.md.settings import Canonical
from mlsim.seeds import numpy_stream
from mlsim.units import kT

#: Per-degree-of-freedom variables that hold the state of the streams.
STATE = ("s10", "s11", "s12", "s20", "s21", "s22")
M1, M2 = 4294967087, 4294944443


def integrator(settings: Canonical, tolerance: float) -> CustomIntegrator:
    """The integrator, without its streams (see :func:`start`).

    Parameters
    ----------
    tolerance : float
        Of the constraints, relative.
    """
    made = CustomIntegrator(settings.timestep_ps)
    made.setConstraintTolerance(tolerance)
    decay = math.exp(-settings.friction_per_ps * settings.timestep_ps)
    made.addGlobalVariable("a", decay)
    made.addGlobalVariable("b", math.sqrt(kT(settings.temperature_K) * (1.0 - decay * decay)))
    for name in (*STATE, "p1", "p2", "u", "noise", "x1"):
        made.addPerDofVariable(name, 0.0)
    made.addUpdateContextState()
    made.addComputePerDof("v", "v + dt*f/m")
    made.addConstrainVelocities()
    made.addComputePerDof("x", "x + 0.5*dt*v")
    _draw(made)
    made.addComputePerDof("noise", "sqrt(-2*log(u))")
    _draw(made)
    made.addComputePerDof("noise", f"noise*cos({2.0 * math.pi!r}*u)")
    made.addComputePerDof("v", "a*v + b*noise/sqrt(m)")
    made.addComputePerDof("x", "x + 0.5*dt*v")
    made.addComputePerDof("x1", "x")
    made.addConstrainPositions()
    made.addComputePerDof("v", "v + (x - x1)/dt")
    return made


def _draw(made: CustomIntegrator) -> None:
    made.addComputePerDof("p1", f"p - {M1}*floor(p/{M1}); p = 1403580*s11 - 810728*s10")
    made.addComputePerDof("p2", f"p - {M2}*floor(p/{M2}); p = 527612*s22 - 1370589*s20")
    for old, new in (("s10", "s11"), ("s11", "s12"), ("s12", "p1"), ("s20", "s21"), ("s21", "s22"), ("s22", "p2")):
        made.addComputePerDof(old, new)
    # between 0 and 1, neither included
    made.addComputePerDof("u", f"select(step(d - 0.5), d, {M1})/{M1 + 1}; d = r - {M1}*floor(r/{M1}); r = p1 - p2")


def start(seeds: Sequence[int], n_atoms: int) -> dict[str, NDArray[np.float64]]:
    """States [copies * N, 3] of the streams by name; those of a copy follow from its seed alone."""
    words = [numpy_stream(seed, "own noise").integers(1, M2, (len(STATE), n_atoms, 3)) for seed in seeds]
    joined = np.concatenate(words, axis=1).astype(np.float64)
    return dict(zip(STATE, joined, strict=True))


def put(made: CustomIntegrator, states: dict[str, NDArray[np.float64]]) -> None:
    """Set the streams (after the Context was made)."""
    for name in STATE:
        made.setPerDofVariableByName(name, [tuple(row) for row in states[name].tolist()])


def take(made: CustomIntegrator) -> dict[str, NDArray[np.float64]]:
    """Read the streams."""
    return {name: np.array([tuple(v) for v in made.getPerDofVariableByName(name)]) for name in STATE}
