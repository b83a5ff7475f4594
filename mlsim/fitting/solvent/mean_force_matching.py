"""Mean-force matching: fit to averaged labels, each weighted by the covariance of its error.

    L = mean_n (f_n - F_n)^T A_n (f_n - F_n) / (3N s^2),     A_n = a (C_n + d^2 1)^-1

C_n is the covariance of label n, F the forces of the model (plus baseline), and d a floor: the size of errors that the
model makes anyway. Without it a few well-known components would outvote all others, and errors of C itself would be
taken at their word. The factor a makes the mean of tr A_n / 3N one, so that with equal, uncorrelated errors L is the
loss of plain force matching; s^2 is the weighted mean square of the labels.

The labels are *not* projected here. An invariant model exerts no net force and no torque, so those of a label are pure
noise; but noise that is correlated with that of the other components, and the inverse covariance uses the ones, which
are zero in the mean, to lower the others (control variates). Projecting first would throw that away.

Which objective a fit uses is decided by the data: labels with covariance come here, instantaneous ones go to
:mod:`mlsim.fitting.solvent.force_matching`.

Symbols: f ``labels``, F ``forces``, A ``weights``, C ``covariance``, d ``floor``, s^2 ``scale``, a ``norm``.

Reference: Aitken, Proc. R. Soc. Edinb. 55, 42 (1936) (generalised least squares).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting import loop
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.force_matching import (
    Baseline,
    FitResult,
    ForceMatching,
    Task,
    carry_out,
    fit_identity,
    require_fitting,
)
from mlsim.fitting.solvent.force_matching import fit as fit_instantaneous
from mlsim.models.contract import AbstractEnergyModel
from mlsim.shapes import Floats

#: Errors below this (kJ/mol/nm per component) are not believed to be of the label: the floor d.
FLOOR = 4.0
#: Steps that a fit to few labels should have.
_STEPS = 4000


class MeanForceMatching:
    """Objective of :func:`mlsim.fitting.loop.run` for labels with covariance.

    Parameters
    ----------
    forces : ForceMatching
        Gives the model and how its forces are computed.
    train, valid : ForceFrames
        With covariance.
    baseline : Baseline or None
    floor : float
        d, kJ/mol/nm.
    """

    unit = "weighted mean-force error (kJ/mol/nm)"

    def __init__(
        self,
        forces: ForceMatching,
        train: ForceFrames,
        valid: ForceFrames,
        baseline: Baseline | None,
        floor: float = FLOOR,
    ) -> None:
        self._forces, self.n_frames = forces, len(train)
        weights = inverse_covariance(train, floor)
        norm = len(weights) * weights.shape[1] / float(np.einsum("fii->", weights))
        self._train = self._tensors(train, baseline.train if baseline else None, norm * weights)
        self._valid = self._tensors(
            valid, baseline.valid if baseline else None, norm * inverse_covariance(valid, floor)
        )
        _, labels, metric = self._train
        self.scale = float(_square(labels, metric).mean())

    def _tensors(self, frames: ForceFrames, baseline: Floats | None, weights: Floats) -> tuple[Tensor, ...]:
        parameter = next(self._forces.model.parameters())
        labels = frames.forces if baseline is None else frames.forces - baseline
        return tuple(
            torch.tensor(np.asarray(a), dtype=parameter.dtype, device=parameter.device)
            for a in (frames.positions, labels, weights)
        )

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Weighted mean squared error of the labels ``index``, over the weighted mean square of all."""
        return self._error(self._train, torch.from_numpy(index)).mean() / self.scale

    def readable(self, loss: float) -> float:
        """Weighted root-mean-square error, kJ/mol/nm."""
        return float(np.sqrt(loss * self.scale))

    def validate(self) -> float:
        """Weighted root-mean-square error on the held-out labels, kJ/mol/nm (noise included)."""
        with torch.no_grad():
            parts = [self._error(self._valid, part).sum() for part in torch.arange(len(self._valid[0])).split(64)]
        return float(np.sqrt(float(torch.stack(parts).sum()) / len(self._valid[0])))

    def _error(self, data: tuple[Tensor, ...], chosen: Tensor) -> Tensor:
        positions, labels, weights = (part[chosen] for part in data)
        return _square(labels - self._forces.engine(positions)[1], weights)


def inverse_covariance(frames: ForceFrames, floor: float = FLOOR) -> NDArray[np.float64]:
    """(C + floor^2 1)^-1 of every label, [F, 3N, 3N], (kJ/mol/nm)^-2.

    Raises
    ------
    InputError
        If the frames have no covariance.
    """
    if frames.covariance is None:
        raise InputError("mean-force matching: expected labels with covariance (mlsim label), got instantaneous forces")
    covariance = np.asarray(frames.covariance, dtype=np.float64)
    return np.asarray(np.linalg.inv(covariance + floor**2 * np.eye(covariance.shape[1])))


def fit(
    model: AbstractEnergyModel,
    train: ForceFrames,
    valid: ForceFrames,
    settings: TrainSettings,
    directory: Path,
    progress: Literal["auto", "off"] = "auto",
    baseline: Baseline | None = None,
    start: Literal["new", "resume"] = "new",
) -> FitResult:
    """Fit ``model`` by mean-force matching if the labels carry covariances, else by force matching.

    Parameters, files and errors as :func:`mlsim.fitting.solvent.force_matching.fit`.
    """
    if train.covariance is None or valid.covariance is None:
        return fit_instantaneous(model, train, valid, settings, directory, progress, baseline, start)
    require_fitting(model, train, valid, baseline)
    forces = ForceMatching(model, train, valid, settings, baseline)
    objective: loop.Objective = MeanForceMatching(forces, train, valid, baseline)
    identity = fit_identity(model, train, valid, settings, baseline)
    task = Task("mean forces", identity, train, valid, settings, directory, progress, baseline, start)
    return carry_out(objective, forces, task)


def defaults(frames: ForceFrames, held_out: float) -> dict[str, int]:
    """Training settings that suit the number of labels: small batches and enough passes. Empty without covariance."""
    if frames.covariance is None:
        return {}
    n_train = max(1, round(len(frames) * (1 - 2 * held_out)))
    batch = int(np.clip(n_train // 8, 4, 16))
    epochs = max(30, -(-_STEPS // max(1, n_train // batch)))
    return {"batch_size": batch, "epochs": epochs, "patience": max(10, epochs // 4)}


def _square(error: Tensor, weights: Tensor) -> Tensor:
    """e^T A e / 3N of every label: errors [B, N, 3], weights [B, 3N, 3N] -> [B]."""
    flat = error.flatten(1)
    return (torch.bmm(weights, flat.unsqueeze(2)).squeeze(2) * flat).mean(1)
