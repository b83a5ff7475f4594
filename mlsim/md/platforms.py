"""Which OpenMM platform to run on, decided by a short timing.

Why not OpenMM's own default: for a 22-atom peptide the Reference platform does a vacuum step in about 9 us where
the CPU platform needs 0.3-0.5 ms of thread-pool overhead; for a water box it is the other way round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Integrator, OpenMMException, Platform, System

from mlsim.errors import InputError
from mlsim.records import RunRecord

#: Above this many particles Reference is never the fastest and not worth timing.
REFERENCE_LIMIT = 600
#: Wall time spent per candidate, s.
TRIAL_SECONDS = 0.2


@dataclass(frozen=True)
class PlatformChoice:
    """A platform with its properties and how fast it was (steps/s; nan if not timed)."""

    name: str
    properties: dict[str, str]
    steps_per_second: float

    def describe(self) -> dict[str, object]:
        """JSON-able record."""
        speed = None if np.isnan(self.steps_per_second) else round(self.steps_per_second, 1)
        return {"name": self.name, "properties": self.properties, "trial_steps_per_second": speed}


def available() -> list[str]:
    """Names of the platforms that OpenMM could load."""
    return [Platform.getPlatform(k).getName() for k in range(Platform.getNumPlatforms())]


def properties_for(name: str, threads: int) -> dict[str, str]:
    """Platform properties: mixed precision on GPUs, thread count on CPU."""
    if name in ("CUDA", "OpenCL", "HIP"):
        return {"Precision": "mixed"}
    if name == "CPU":
        return {"Threads": str(threads)} if threads else {}
    return {}


def choose(
    requested: str,
    threads: int,
    system: System,
    positions: NDArray[np.float64],
    integrator: Callable[[], Integrator],
) -> PlatformChoice:
    """The requested platform, or the fastest for ``auto``.

    Parameters
    ----------
    positions : float64 [N, 3], nm
    integrator : callable
        Makes a fresh integrator per trial.

    Raises
    ------
    InputError
        If the requested platform is not available here.
    """
    names = available()
    if requested != "auto":
        if requested not in names:
            raise InputError(f"platform '{requested}' is not available here; available: {', '.join(names)}")
        return PlatformChoice(requested, properties_for(requested, threads), float("nan"))
    candidates = []
    for name in names:
        if name == "Reference" and system.getNumParticles() > REFERENCE_LIMIT:
            continue
        candidates.append((name, properties_for(name, threads)))
        if name == "CPU" and threads == 0 and system.getNumParticles() <= REFERENCE_LIMIT:
            candidates.append((name, properties_for(name, 1)))
    timed = [
        PlatformChoice(name, properties, _speed(system, positions, integrator(), name, properties))
        for name, properties in candidates
    ]
    return max(timed, key=lambda choice: choice.steps_per_second)


def timed(name: str, system: System, positions: NDArray[np.float64], integrator: Integrator) -> PlatformChoice:
    """Platform ``name`` and how fast it is for ``system``."""
    properties = properties_for(name, 0)
    return PlatformChoice(name, properties, _speed(system, positions, integrator, name, properties))


def _speed(
    system: System, positions: NDArray[np.float64], integrator: Integrator, name: str, properties: dict[str, str]
) -> float:
    try:
        context = Context(system, integrator, Platform.getPlatformByName(name), properties)
        context.setPositions(positions)
        integrator.step(1)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < TRIAL_SECONDS:
            integrator.step(4)
            context.getState(getEnergy=False)
            count += 4
        return count / (time.perf_counter() - start)
    except OpenMMException:
        return 0.0  # a platform that cannot run this System is not a candidate


def recorded(directory: Path) -> PlatformChoice:
    """The platform that the run in ``directory`` was begun on.

    Raises
    ------
    InputError
        If its record does not say.
    """
    used = RunRecord.read(directory).platform
    if used is None:
        raise InputError(f"{directory}: run.json names no platform; resume with --platform")
    return PlatformChoice(str(used["name"]), dict(used["properties"]), float("nan"))
