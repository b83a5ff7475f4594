"""Force matching: fit a solvation free energy to the solvent's forces on the solute.

For labels f(r, w) of solute r and solvent w the mean of f over the solvent at fixed r is minus the gradient of the
potential of mean force W(r). The least-squares fit of conservative forces F = -grad W_theta finds it:

    L = < |f - F|^2 > / < |f|^2 >  =  (mean-force error + noise of f) / < |f|^2 >

The noise does not depend on theta; the loss stays large even for a perfect model. Any bias on the solute that made the
frames is harmless (it changes which r are seen, not f at given r). With a baseline the model is fitted to f minus
the baseline's force, and the baseline must act beside it in simulations.

The additive constant of W is not determined by forces and is left as the parameters give it.

Symbols: f ``labels``, F ``forces``, theta the parameters of ``model``.

Reference: Chen et al., J. Chem. Phys. 155, 084101 (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.dataset import batches, conditions, region, split
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.region import TrainedRegion
from mlsim.errors import InputError
from mlsim.files import write_text
from mlsim.fitting import checkpoint, history, loop
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.engine import force_engine
from mlsim.fitting.solvent.force_error import ForceErrors, force_errors, predict
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.models import weights
from mlsim.models.contract import AbstractEnergyModel
from mlsim.records import FitRecord, digest_of_all, versions
from mlsim.shapes import Floats, require_shape

SETTINGS = "train.yaml"
#: What a fit may lower.
Goal = Literal["forces", "mean forces", "populations"]


@dataclass(frozen=True, eq=False)
class Baseline:
    """Forces of a model that acts beside the network, kJ/mol/nm: on the training and the held-out frames [F, N, 3]."""

    name: str
    train: Floats
    valid: Floats


@dataclass(frozen=True, eq=False)
class FitResult:
    """Outcome of a fit. ``errors`` are those of the best epoch on the held-out frames that chose it."""

    model: AbstractEnergyModel
    directory: Path
    stopped: loop.Stopped
    epochs: int
    best_epoch: int
    errors: ForceErrors
    frames_per_s: float
    history: tuple[dict[str, float], ...]


class ForceMatching:
    """The objective of :func:`fit`: labels and model on one device."""

    unit = "projected force error (kJ/mol/nm)"

    def __init__(
        self,
        model: AbstractEnergyModel,
        train: ForceFrames,
        valid: ForceFrames,
        settings: TrainSettings,
        baseline: Baseline | None,
    ) -> None:
        self.model = model
        parameter = next(model.parameters())
        self._place: dict[str, Any] = {"dtype": parameter.dtype, "device": parameter.device}
        types = model.type_indices(train.atom_types).to(parameter.device)
        self.engine = force_engine(model, types, torch.tensor(train.charges, **self._place), settings.engine)
        self.n_frames = len(train)
        self.positions, self.labels = self._tensors(train, baseline.train if baseline else None, settings.labels)
        self.valid = self._tensors(valid, baseline.valid if baseline else None, "projected")
        self.scale = float(self.labels.square().mean())

    def _tensors(self, frames: ForceFrames, baseline: Floats | None, labels: str) -> tuple[Tensor, Tensor]:
        forces = frames.forces if baseline is None else frames.forces - baseline
        if labels == "projected":
            forces = remove_rigid(forces, frames.positions)
        return torch.tensor(frames.positions, **self._place), torch.tensor(forces, **self._place)

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Mean squared force error of the frames ``index``, over the mean square of all labels."""
        chosen = torch.from_numpy(index)
        _, forces = self.engine(self.positions[chosen])
        return (forces - self.labels[chosen]).square().mean() / self.scale

    def readable(self, loss: float) -> float:
        """Root-mean-square error, kJ/mol/nm."""
        return float(np.sqrt(loss * self.scale))

    def validate(self) -> float:
        """Root-mean-square error of the projected forces on the held-out frames, kJ/mol/nm."""
        positions, labels = self.valid
        total = 0.0
        with torch.no_grad():
            for part in batches.consecutive(len(positions), 256):
                total += (self.engine(positions[part])[1] - labels[part]).square().sum().item()
        return float(np.sqrt(total / labels.numel()))


def fit(
    model: AbstractEnergyModel,
    train: ForceFrames,
    valid: ForceFrames,
    settings: TrainSettings,
    directory: str | Path,
    progress: Literal["auto", "off"] = "auto",
    baseline: Baseline | None = None,
    start: Literal["new", "resume"] = "new",
) -> FitResult:
    """Fit ``model`` (changed in place) and write everything about it into ``directory``.

    Files: ``config.yaml`` and ``weights.safetensors`` (the best epoch), ``train.yaml``, ``history.csv``,
    ``learning-curve.png``, ``result.json``, ``guard.npz`` (the region of the training frames), ``checkpoint.pt``.

    Parameters
    ----------
    model : AbstractEnergyModel
        Its precision and device are used.
    train, valid : ForceFrames
        Frames of one molecule; no block of time should be in both (``dataset.split``).
    settings : TrainSettings
    directory : path
    progress : {"auto", "off"}
        A bar with frames/s and time left, on a terminal only.
    baseline : Baseline, optional
        Forces to be subtracted from the labels.
    start : {"new", "resume"}
        Begin, or continue from the checkpoint in ``directory``.

    Raises
    ------
    InputError
        If the frames do not belong together or to the model's baseline.
    OccupiedError, CheckpointError, StorageError
        If the directory is in use, its checkpoint is another run's or damaged, or the disk refuses.
    UnphysicalError
        If the loss is no number; the last good checkpoint stays.
    """
    require_fitting(model, train, valid, baseline)
    objective = ForceMatching(model, train, valid, settings, baseline)
    identity = fit_identity(model, train, valid, settings, baseline)
    task = Task("forces", identity, train, valid, settings, Path(directory), progress, baseline, start)
    return carry_out(objective, objective, task)


@dataclass(frozen=True, eq=False)
class Task:
    """A fit that is ready to begin: what is fitted to what, and where it goes.

    ``identity`` is the digest of all that decides the result; ``begun_from`` that of the fit whose weights it begins
    with.
    """

    goal: Goal
    identity: str
    train: ForceFrames
    valid: ForceFrames
    settings: TrainSettings
    directory: Path
    progress: Literal["auto", "off"] = "auto"
    baseline: Baseline | None = None
    start: Literal["new", "resume"] = "new"
    begun_from: str | None = None


def carry_out(objective: loop.Objective, forces: ForceMatching, task: Task) -> FitResult:
    """Lower ``objective`` for the model of ``forces``, and write model, history and held-out force errors.

    Every kind of fit ends here.
    """
    model, train, valid, settings, directory = forces.model, task.train, task.valid, task.settings, task.directory
    baseline = task.baseline
    with checkpoint.begin(directory, task.identity, task.start) as state:
        write_text(directory / SETTINGS, settings.to_yaml())
        TrainedRegion.of(train, valid, settings.seed).save(directory / region.FILE)
        stopped = loop.run(model, objective, settings, state, directory, task.progress)
        weights.save(model, directory)
        result = FitResult(
            model,
            directory,
            stopped,
            state.epoch,
            state.best_epoch,
            held_out_errors(
                model, valid, settings, baseline.name if baseline else "", baseline.valid if baseline else None
            ),
            float(np.median([row["frames_per_s"] for row in state.history])),
            tuple(state.history),
        )
        levels = {row.predictor: row.projected.value for row in result.errors.rows if row.predictor != "model"}
        history.draw(state.history, directory, objective.unit, levels if objective is forces else {})
        _record(result, task).write(directory)
        return result


def held_out_errors(
    model: AbstractEnergyModel, frames: ForceFrames, settings: TrainSettings, name: str, baseline: Floats | None
) -> ForceErrors:
    """Errors of zero, the baseline ``name`` (if forces are given) and the model plus baseline on ``frames``."""
    forces = predict(model, frames)
    if baseline is None:
        return force_errors(frames, {"model": forces}, settings.block_ps, settings.seed)
    return force_errors(frames, {name: baseline, "model": forces + baseline}, settings.block_ps, settings.seed)


def require_fitting(
    model: AbstractEnergyModel, train: ForceFrames, valid: ForceFrames, baseline: Baseline | None
) -> None:
    """Refuse frames that do not belong together, or to the model's baseline."""
    for name in ("molecule_digest", "atom_types"):
        if getattr(train, name) != getattr(valid, name):
            raise InputError(f"training and held-out frames differ in {name}; split one set of frames")
    wanted = getattr(model.config, "baseline", "none")
    given = baseline.name if baseline else "none"
    if wanted != given:
        raise InputError(f"baseline: the model is set up for '{wanted}', the forces given are of '{given}'")
    if baseline:
        require_shape(baseline.train, train.forces.shape, "baseline forces on the training frames (kJ/mol/nm)")
        require_shape(baseline.valid, valid.forces.shape, "baseline forces on the held-out frames (kJ/mol/nm)")


def fit_identity(
    model: AbstractEnergyModel,
    train: ForceFrames,
    valid: ForceFrames,
    settings: TrainSettings,
    baseline: Baseline | None,
) -> str:
    """Digest of all that decides the result."""
    dtype = str(next(model.parameters()).dtype)
    parts = (model.kind, model.config.digest(), str(model.seed), dtype, settings.identity(), train.digest, valid.digest)
    under = (np.ascontiguousarray(baseline.train), np.ascontiguousarray(baseline.valid)) if baseline else ()
    return digest_of_all(["/".join(parts), *under])


def _record(result: FitResult, task: Task) -> FitRecord:
    train = task.train
    told = conditions.known(train.provenance)
    return FitRecord(
        kind=result.model.kind,
        objective=task.goal,
        stopped=result.stopped,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        frames_per_s=result.frames_per_s,
        n_train=len(train),
        train_digest=train.digest,
        valid_digest=task.valid.digest,
        molecule_digest=train.molecule_digest,
        **({} if told is None else told.model_dump()),
        split=split.note_of(train),
        baseline=task.baseline.name if task.baseline else "none",
        begun_from=task.begun_from,
        held_out=result.errors.as_dict(),
        settings=task.settings.model_dump(mode="json"),
        identity=task.identity,
        versions=versions(),
    )
