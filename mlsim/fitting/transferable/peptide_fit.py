"""A fit of one solvent to many peptides, from shelved arrays to a model with its held-out errors.

Files of the fit: ``config.yaml`` and ``weights.safetensors`` (the best epoch), ``train.yaml``, ``history.csv``,
``learning-curve.png`` (all peptides), ``peptides.csv`` (held-out error of each peptide after each epoch),
``result.json``, ``checkpoint.pt``. Killed and resumed on the same machine, a fit continues bit for bit.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.dataset import conditions, split
from mlsim.files import replacing, write_text
from mlsim.fitting import checkpoint, history, loop
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.transferable.many_peptides import ManyPeptides, solvent_forces, stands_beside
from mlsim.fitting.transferable.peptide_arrays import AtomForces, Labelling, PeptideArrays
from mlsim.fitting.transferable.peptide_errors import SetErrors, set_errors
from mlsim.models import weights
from mlsim.models.contract import create
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.models.transferable.peptide_solvent import TransferableISSNet
from mlsim.records import FitRecord, digest_of, digest_of_json, versions
from mlsim.shapes import Floats

SETTINGS, COURSE = "train.yaml", "peptides.csv"


@dataclass(frozen=True, eq=False)
class PeptideFit:
    """Outcome of a fit; ``errors`` are those of the best epoch on the held-out frames of the training peptides."""

    model: TransferableISSNet
    directory: Path
    stopped: loop.Stopped
    epochs: int
    best_epoch: int
    frames_per_s: float
    errors: SetErrors


def born_alone(model: TransferableISSNet, dielectric: float) -> AtomForces:
    """Forces of OBC2 with ``dielectric``, for the kinds of atoms that ``model`` knows, in double precision."""
    small = {"features": 1, "blocks": 1, "n_radial": 2, "form": "additive", "dielectric": dielectric}
    silent = create(model.kind, {**model.config.model_dump(), **small}).double()
    assert isinstance(silent, TransferableISSNet)

    def forces(atoms: SolventAtoms, positions: Floats) -> Floats:
        return solvent_forces(silent, atoms, positions)

    return forces


def labelling(model: TransferableISSNet) -> Labelling:
    """How labels for ``model`` are made from the forces of frames."""
    if not stands_beside(model):
        return Labelling()
    dielectric = float(model.config.model_dump()["dielectric"])
    return Labelling(born_alone(model, dielectric), None, f"obc2, dielectric constant {dielectric:g}")


def fit(
    model: TransferableISSNet,
    peptides: Sequence[PeptideArrays],
    settings: TrainSettings,
    directory: str | Path,
    progress: Literal["auto", "off"] = "auto",
    start: Literal["new", "resume"] = "new",
    begun_from: str | None = None,
) -> PeptideFit:
    """Fit ``model`` (changed in place) to all peptides together.

    Parameters
    ----------
    model : TransferableISSNet
        On the CPU.
    peptides : sequence of PeptideArrays
        Shelved with the labels of :func:`labelling`.
    settings : TrainSettings
    directory : path
    progress : {"auto", "off"}
    start : {"new", "resume"}
    begun_from : str, optional
        Identity of the weights that ``model`` has, if they are not the random ones of its seed.

    Raises
    ------
    InputError
        If a peptide has no training frames.
    ArtifactError
        If the model does not know an atom of a peptide.
    OccupiedError, CheckpointError, StorageError, UnphysicalError
        As :func:`mlsim.fitting.solvent.force_matching.fit`.
    """
    directory = Path(directory)
    for peptide in peptides:
        model.require_domain(peptide.atoms, peptide.name)
    objective = _Watched(model, peptides, directory)
    identity = objective.identity(settings)
    if begun_from is not None:
        identity = digest_of(f"{identity}/begun from {begun_from}")
    task = Task("forces", identity, settings, directory, progress, start, begun_from)
    return carry_out(objective, model, peptides, task)


@dataclass(frozen=True)
class Task:
    """A fit that is ready to begin: ``goal``, what decides the result (``identity``), how and where.

    ``begun_from`` is the identity of the fit whose weights it begins with.
    """

    goal: Literal["forces", "populations"]
    identity: str
    settings: TrainSettings
    directory: Path
    progress: Literal["auto", "off"] = "auto"
    start: Literal["new", "resume"] = "new"
    begun_from: str | None = None


def carry_out(
    objective: loop.Objective, model: TransferableISSNet, peptides: Sequence[PeptideArrays], task: Task
) -> PeptideFit:
    """Lower ``objective`` for ``model``, and write model, history and held-out force errors.

    Raises
    ------
    OccupiedError, CheckpointError, StorageError, UnphysicalError
        As :func:`fit`.
    """
    with checkpoint.begin(task.directory, task.identity, task.start) as state:
        write_text(task.directory / SETTINGS, task.settings.to_yaml())
        stopped = loop.run(model, objective, task.settings, state, task.directory, task.progress)
        weights.save(model, task.directory)
        errors = held_out_errors(model, peptides, task.settings)
        history.draw(state.history, task.directory, objective.unit, {})
        speed = float(np.median([row["frames_per_s"] for row in state.history]))
        result = PeptideFit(model, task.directory, stopped, state.epoch, state.best_epoch, speed, errors)
        _record(result, peptides, task).write(task.directory)
        return result


def held_out_errors(model: TransferableISSNet, peptides: Sequence[PeptideArrays], settings: TrainSettings) -> SetErrors:
    """Errors of ``model`` and of OBC2 with the same dielectric constant on the held-out frames."""
    born = born_alone(model, float(model.config.model_dump()["dielectric"]))
    held = [peptide.held_out for peptide in peptides]
    predicted = [
        {
            "zero": np.zeros_like(p.frames.forces),
            "obc2": born(p.atoms, p.frames.positions),
            "model": solvent_forces(model, p.atoms, p.frames.positions),
        }
        for p in held
    ]
    return set_errors(held, predicted, settings.block_ps, settings.seed)


class _Watched(ManyPeptides):
    """The objective, which notes the held-out error of every peptide and has them in the checkpoint."""

    def __init__(self, model: TransferableISSNet, peptides: Sequence[PeptideArrays], directory: Path) -> None:
        super().__init__(model, peptides)
        self.directory = directory
        self.course: list[NDArray[np.float64]] = []

    def validate(self) -> float:
        errors = self.held_out()
        self.course.append(errors)
        with replacing(self.directory / COURSE) as partial, open(partial, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *(p.name for p in self.peptides)])
            for epoch, row in enumerate(self.course, start=1):
                writer.writerow([epoch, *(f"{value:.6g}" for value in np.sqrt(row))])
        return float(np.sqrt(errors.mean()))

    def memory(self) -> dict[str, Tensor]:
        return {"course": torch.from_numpy(np.array(self.course))}

    def recall(self, memory: dict[str, Tensor]) -> None:
        self.course = list(memory["course"].numpy())


def _data(peptides: Sequence[PeptideArrays]) -> str:
    what = f"{sum(len(p) for p in peptides)} frames of {len(peptides)} peptides"
    teachers = peptides[0].teachers
    return f"{what}, with the mean force of {len(teachers)} fits to them as labels" if teachers else what


def _record(result: PeptideFit, peptides: Sequence[PeptideArrays], task: Task) -> FitRecord:
    held = [peptide.held_out.frames for peptide in peptides]
    conditions.require_alike([frames.provenance for frames in held])
    told = conditions.known(held[0].provenance)
    training = {p.name: {"frames": len(p), "digest": p.digest} for p in peptides}
    return FitRecord(
        kind=result.model.kind,
        objective=task.goal,
        stopped=result.stopped,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        frames_per_s=result.frames_per_s,
        n_train=sum(len(p) for p in peptides),
        train_digest=digest_of_json(training),
        valid_digest=digest_of_json({p.name: frames.digest for p, frames in zip(peptides, held, strict=True)}),
        molecule_digest=held[0].molecule_digest,
        data=_data(peptides),
        peptides=training,
        **({} if told is None else told.model_dump()),
        split=split.note_of(held[0]),
        held_out=result.errors.as_dict(),
        settings=task.settings.model_dump(mode="json"),
        identity=task.identity,
        begun_from=task.begun_from,
        versions=versions(),
    )
