"""From conformations to an energy-based model: the task of ``mlsim train ebm``.

train_ebm("dw4", "runs/ebm", EbmSettings())     -> the fit, and what its conformations are worth
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlsim.dataset.batches import count
from mlsim.fitting.checkpoint import LAYOUT
from mlsim.fitting.density.contrastive_fit import DensityFit, fit, take_up
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.engine import use_threads
from mlsim.starts import require_start
from mlsim.workflow.training.baseline import keep_molecule
from mlsim.workflow.training.ebm import NetworkSettings, Recipe, prepare, recipe_for
from mlsim.workflow.training.fit_settings import EbmSettings

#: Settings of a fit that its data decide where they are not given.
_OF_DATA = ("frames", "epochs", "warm", "negatives", "steps", "noise", "smoothing", "buffer", "reset")


@dataclass(frozen=True, eq=False)
class EbmFit:
    """A finished fit; ``facts`` are those of its conformations."""

    fit: DensityFit
    facts: dict[str, Any]


def train_ebm(
    source: str,
    directory: str | Path,
    settings: EbmSettings | None = None,
    progress: Literal["auto", "off"] = "auto",
    start: Literal["new", "resume"] = "new",
) -> EbmFit:
    """Learn an energy from conformations alone.

    Parameters
    ----------
    source : str
        A stored reference (dw4, lj13), force frames (.h5; forces are not used), a run directory or a trajectory.
    directory : str or Path
        Training directory.
    settings : EbmSettings, optional

    Raises
    ------
    MissingError, InputError, SettingsError
        No such source, one that does not say its molecule or temperature, or settings out of range.
    OccupiedError, CheckpointError, StorageError, UnphysicalError
        As every fit.
    """
    settings, directory = settings or EbmSettings(), Path(directory)
    given = settings.model_dump(include=set(_OF_DATA), exclude_none=True)
    recipe = Recipe.parse(recipe_for(source).model_dump() | given, "settings")
    train = TrainSettings.parse(
        {
            "epochs": recipe.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "ema_decay": settings.ema_decay,
            "seed": settings.seed,
            "patience": recipe.epochs,
            "clip_norm": 10.0,
            "max_minutes": settings.max_minutes,
        },
        "settings",
    )
    network = NetworkSettings.parse({"features": settings.features, "layers": settings.layers}, "settings")
    values: dict[str, Any] = {
        **recipe.model_dump(exclude={"frames", "epochs", "warm", "smoothing"}),
        **settings.model_dump(include={"step_length", "divergence", "denoising", "energy_square"}),
        "data_noise": recipe.smoothing,
        "particle_set": settings.particles,
    }
    ContrastiveSettings.parse(values, "settings")
    require_start(directory, LAYOUT, start)
    if settings.threads is not None:
        use_threads(settings.threads)
    prepared = prepare(
        source,
        network,
        recipe,
        settings.seed,
        settings.system,
        settings.held_out,
        settings.temperature_K,
        settings.bias,
    )
    values["warm_steps"] = round(recipe.warm * recipe.epochs * count(len(prepared.problem.train), settings.batch_size))
    contrast = ContrastiveSettings.parse(values, "settings")
    first = None if settings.begin_at is None else take_up(prepared.problem, settings.begin_at)
    found = fit(prepared.problem, train, contrast, directory, prepared.facts, progress, start, first)
    keep_molecule(prepared.molecule, directory)
    return EbmFit(found, prepared.facts)
