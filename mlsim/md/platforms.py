"""Which OpenMM platform to run on, decided by a rule of size and terms: the same command always takes the same one.

    in a box, or more than 600 particles       CUDA, HIP, OpenCL (where OpenMM supports it), CPU: the first there is
    a network by TorchForce                    CUDA or HIP if there is one, else Reference
    anything else                              Reference

Why: for a 22-atom peptide the Reference platform does a vacuum step in about 9 us where the CPU platform needs
0.3-0.5 ms of thread-pool overhead, and on one core it takes less processor time for all implicit solvents up to 166
atoms (``benchmarks.md_speed``); for a water box it is the other way round. Why no timing: on a busy machine a trial of
0.2 s took the slower platform, and another one the next time. The reason stands in the record.

OpenCL on a processor (pocl) is not supported by OpenMM, and TorchForce on OpenCL ends the process with releases of
openmmtorch that were built for another OpenMM: ``auto`` takes neither, and the latter is refused when it is asked for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Integrator, OpenMMException, Platform, System, VerletIntegrator

from mlsim.errors import InputError
from mlsim.records import RunRecord

#: Above this many particles Reference is never the fastest.
REFERENCE_LIMIT = 600
#: Wall time of a timing, s.
TRIAL_SECONDS = 0.2
#: Vendors whose OpenCL OpenMM supports.
OPENCL_VENDORS = ("NVIDIA", "Advanced Micro Devices", "AMD", "Apple", "Intel")
#: What the name of a force that TorchForce evaluates ends with; an OpenMM System does not give back its class.
TORCH_FORCE = "(TorchForce)"


@dataclass(frozen=True)
class PlatformChoice:
    """A platform with its properties, and why it was taken."""

    name: str
    properties: dict[str, str]
    reason: str

    def describe(self) -> dict[str, object]:
        """JSON-able record."""
        return {"name": self.name, "properties": self.properties, "reason": self.reason}


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


def choose(requested: str, threads: int, system: System) -> PlatformChoice:
    """The requested platform, or for ``auto`` the one that the rule of this module names.

    Raises
    ------
    InputError
        If the requested platform is not available here, or cannot run ``system``.
    """
    names, torch = available(), _has_torch_force(system)
    if requested != "auto":
        if requested not in names:
            raise InputError(f"platform '{requested}' is not available here; available: {', '.join(names)}")
        if requested == "OpenCL" and torch:
            raise InputError("platform 'OpenCL': TorchForce can end the process there; use --bridge python")
        return PlatformChoice(requested, properties_for(requested, threads), "asked for")
    n, boxed = system.getNumParticles(), system.usesPeriodicBoundaryConditions()
    large = boxed or n > REFERENCE_LIMIT
    what = f"{n} particles {'in a box' if boxed else 'without box'}{', TorchForce' if torch else ''}"
    wanted = (["CUDA", "HIP"] if large or torch else []) + (["OpenCL"] if large and not torch else [])
    for name in wanted:
        if name in names and (name != "OpenCL" or opencl_is_supported()):
            return PlatformChoice(name, properties_for(name, threads), f"{what}: the first GPU platform here")
    name = "CPU" if large and "CPU" in names else "Reference"
    return PlatformChoice(
        name, properties_for(name, threads), f"{what}: no GPU pays" if not large else f"{what}: no GPU"
    )


def _has_torch_force(system: System) -> bool:
    return any(force.getName().endswith(TORCH_FORCE) for force in system.getForces())


@lru_cache(maxsize=1)
def opencl_is_supported() -> bool:
    """Whether OpenMM supports the OpenCL of this machine; processors that pretend to be a device it does not."""
    try:
        system = System()
        system.addParticle(1.0)
        platform = Platform.getPlatformByName("OpenCL")
        context = Context(system, VerletIntegrator(0.001), platform)
        vendor = platform.getPropertyValue(context, "OpenCLPlatformName")
    except OpenMMException:
        return False
    return any(word in vendor for word in OPENCL_VENDORS)


def speed(choice: PlatformChoice, system: System, positions: NDArray[np.float64], integrator: Integrator) -> float:
    """Steps per second of wall time in a short timing; 0 for a platform that cannot run ``system``."""
    return _speed(system, positions, integrator, choice.name, choice.properties)


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
    return PlatformChoice(str(used["name"]), dict(used["properties"]), "as begun")
