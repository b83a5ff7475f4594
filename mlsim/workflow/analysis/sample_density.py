"""``sample`` in Python: a sampler on a test density, scored against its reference with the iid floor beside it.

sample("dw4", SampleSettings(sampler="esvgd", particles=100))     -> particles, scores, floor
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.files import write_npz
from mlsim.samplers.methods.stopping import plateau
from mlsim.samplers.sampler_catalog import SamplerSettings, stein_kernel
from mlsim.samplers.targets import by_name, trial
from mlsim.seeds import fresh_seed
from mlsim.workflow.analysis.analysis_settings import SampleSettings


@dataclass(frozen=True, eq=False)
class SampleReport:
    """Particles and their scores.

    Attributes
    ----------
    positions, log_density : arrays [M, ...], [M]
        Those that were kept.
    scores, floor : dict of str to float
        Metrics, and what as many independent draws of the reference have.
    discrepancies : tuple of float, or None
        Stein discrepancy of all, of the kept and of the first as many particles, if they were thinned.
    """

    target: str
    settings: SampleSettings
    positions: NDArray[Any]
    log_density: NDArray[Any]
    scores: dict[str, float]
    floor: dict[str, float]
    gradients: int
    reason: str
    wall_s: float
    discrepancies: tuple[float, float, float] | None
    record: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write particles, log density and the record as ``.npz``."""
        text = json.dumps(self.record)
        write_npz(path, {"positions": self.positions, "log_density": self.log_density, "record": np.array(text)})


def require_output(path: Path | None) -> None:
    """Refuse a file that is not ``.npz``."""
    if path is not None and path.suffix != ".npz":
        raise InputError(f"--output: expected a file ending in .npz, got {path}")


def sample(target: str, settings: SampleSettings | None = None) -> SampleReport:
    """Sample a test density and compare with its reference.

    Parameters
    ----------
    target : str
        Name of a test density: dw4, lj13, c4, ...
    settings : SampleSettings, optional

    Raises
    ------
    InputError, SettingsError
        No such target, sampler or kernel.
    """
    settings = settings or SampleSettings()
    chosen = by_name(target)
    root = fresh_seed() if settings.seed is None else settings.seed
    how = SamplerSettings.parse(
        {
            "method": settings.sampler,
            "gradients": settings.gradients,
            "length": chosen.length,
            "kernel": settings.kernel,
            "bandwidth": settings.bandwidth,
        },
        "mlsim sample",
    )
    stein = stein_kernel(chosen.symmetry, how)
    ends = plateau(stein) if settings.stop == "ksd" else None
    outcome = trial.run(chosen, how, settings.particles, root, stop=ends)
    samples, floor = outcome.samples, trial.floor(chosen, settings.particles)
    positions, log_density, discrepancies = samples.positions, samples.log_density, None
    if settings.thin:
        kept, *found = trial.thinned(chosen, positions, stein, settings.thin)
        positions, log_density = positions[kept], log_density[kept]
        discrepancies = (float(found[0]), float(found[1]), float(found[2]))
    record = {"target": target, "seed": root, "settings": how.model_dump(), "scores": outcome.metrics, "floor": floor}
    return SampleReport(
        target,
        settings.model_copy(update={"seed": root}),
        positions.numpy(),
        log_density.numpy(),
        outcome.metrics,
        floor,
        samples.gradients,
        samples.reason,
        outcome.wall_s,
        discrepancies,
        record,
    )
