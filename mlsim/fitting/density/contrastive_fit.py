"""Fit an energy-based model and write everything about it into a directory.

The directory is what ``mlsim export`` takes: ``config.yaml`` and ``weights.safetensors``, ``train.yaml``,
``contrastive.yaml``, ``history.csv``, ``learning-curve.png``, ``result.json``, ``checkpoint.pt``, and the replay buffer
at the end, ``particles.npz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.files import write_npz, write_text
from mlsim.fitting import checkpoint, history, loop
from mlsim.fitting.density.divergence import ContrastiveDivergence
from mlsim.fitting.density.joint_objective import JointDivergence
from mlsim.fitting.density.problem import Problem
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.fitting.settings import TrainSettings
from mlsim.models import weights
from mlsim.models.contract import AbstractEnergyModel
from mlsim.models.ebm.energy_based import EnergyBasedModel
from mlsim.records import FitRecord, digest_of, digest_of_all, versions

SETTINGS, CONTRAST, PARTICLES = "train.yaml", "contrastive.yaml", "particles.npz"


@dataclass(frozen=True, eq=False)
class DensityFit:
    """Outcome: why it stopped, epochs done, held-out error of the kept parameters, history."""

    directory: Path
    stopped: loop.Stopped
    epochs: int
    held_out: float
    history: tuple[dict[str, float], ...]


def fit(
    problem: Problem,
    train: TrainSettings,
    contrast: ContrastiveSettings,
    directory: str | Path,
    facts: dict[str, Any],
    progress: Literal["auto", "off"] = "auto",
    start: Literal["new", "resume"] = "new",
    particles: torch.Tensor | None = None,
) -> DensityFit:
    """Fit ``problem.model`` (changed in place) by contrastive divergence.

    Parameters
    ----------
    problem : Problem
        Its model must be an :class:`AbstractEnergyModel` (others: :func:`carry_out`).
    train, contrast : settings
    directory : path
    facts : dict
        Entered into ``result.json`` (:class:`mlsim.records.FitRecord`): where the data come from, their conditions.
    progress : {"auto", "off"}
    start : {"new", "resume"}
        Begin, or continue from the checkpoint in ``directory``.
    particles : Tensor [buffer, d], optional
        First negatives, see :func:`take_up`.

    Raises
    ------
    OccupiedError, CheckpointError, StorageError
        If the directory is in use, its checkpoint is another run's or damaged, or the disk refuses.
    UnphysicalError
        If the loss is no number; the last good checkpoint stays.
    """
    objective = ContrastiveDivergence(problem, contrast, train.seed)
    model, begun = problem.model, ""
    assert isinstance(model, AbstractEnergyModel)
    if particles is not None:
        objective.begin_at(particles)
        begun = digest_of_all(tensor.numpy() for tensor in (particles, *model.state_dict().values()))
    found = carry_out(objective, train, contrast, Path(directory), progress, start, begun)
    weights.save(model, found.directory)
    history.draw(found.history, found.directory, objective.unit, {})
    write_npz(found.directory / PARTICLES, {"particles": objective.negatives.particles.numpy()})
    values = {
        "kind": model.kind,
        "objective": "density",
        "stopped": found.stopped,
        "epochs": found.epochs,
        "held_out_error": found.held_out,
        "held_out_unit": objective.unit,
        "n_train": len(problem.train),
        "train_digest": digest(problem.train),
        "valid_digest": digest(problem.valid),
        "settings": train.model_dump(mode="json"),
        "contrastive": contrast.model_dump(mode="json"),
        "identity": identity(problem, train, contrast, begun),
        "begun_from": begun or None,
        "versions": versions(),
    }
    FitRecord.parse(values | facts, "facts").write(found.directory)
    return found


def take_up(problem: Problem, directory: Path) -> torch.Tensor:
    """Give ``problem.model`` the weights of the fit in ``directory``, and return its last negatives [buffer, d].

    Why: near the end of a fit one wants what its beginning does not bear, chains that are never started afresh. They
    alone feel the weights of basins whose exchange takes longer than a chain lives.

    Raises
    ------
    MissingError, ArtifactError
        If it is no finished fit, or damaged.
    InputError
        If its model is another one: other data, another network.
    """
    model, path = problem.model, directory / PARTICLES
    assert isinstance(model, EnergyBasedModel)
    earlier = weights.load(directory)
    if earlier.kind != model.kind or earlier.config != model.config:
        raise InputError(f"{directory}: expected a fit of the same data, network and smoothing, found another model")
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected the negatives of a finished fit")
    try:
        found = torch.from_numpy(limits.arrays(path)["particles"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged ({' '.join(str(error).split())}); make the fit again") from None
    model.load_state_dict(earlier.state_dict())
    model.unsettle()
    return found


def carry_out(
    objective: ContrastiveDivergence | JointDivergence,
    train: TrainSettings,
    contrast: ContrastiveSettings,
    directory: Path,
    progress: Literal["auto", "off"],
    start: Literal["new", "resume"],
    begun: str = "",
) -> DensityFit:
    """Run the loop for any model and leave the kept parameters in it; every contrastive fit ends here."""
    problem = objective.problem
    name = identity(problem, train, contrast, begun)
    with checkpoint.begin(directory, name, start) as state:
        write_text(directory / SETTINGS, train.to_yaml())
        write_text(directory / CONTRAST, contrast.to_yaml())
        stopped = loop.run(problem.model, objective, train, state, directory, progress)
        if contrast.keep == "last":
            problem.model.load_state_dict(state.average or state.weights)
        held_out = objective.validate()
        problem.settle(contrast.data_noise * problem.length)
        return DensityFit(directory, stopped, state.epoch, held_out, tuple(state.history))


def identity(problem: Problem, train: TrainSettings, contrast: ContrastiveSettings, begun: str = "") -> str:
    """Digest of all that decides the result; ``begun``: that of weights and negatives taken from another fit."""
    model = problem.model
    config = type(model).__name__
    if isinstance(model, AbstractEnergyModel):
        config = f"{model.config.digest()}/{model.seed}"
    shapes = [f"{key}{tuple(value.shape)}" for key, value in model.state_dict().items()]
    parts = [config, *shapes, train.identity(), contrast.digest(), digest(problem.train), digest(problem.valid)]
    parts += [more for more in (problem.bias_digest, begun) if more]
    return digest_of("/".join(parts))


def digest(data: torch.Tensor) -> str:
    """Content digest (16 hex digits) of data [F, d]."""
    return digest_of(np.ascontiguousarray(data.numpy()))
