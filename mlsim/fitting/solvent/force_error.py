"""Errors of predicted forces on held-out frames, with intervals.

The label of a frame is the solvent's force at one instant; its scatter about the mean force is by far the largest
part of any error. Two numbers are reported for each predictor, per Cartesian component:

    raw        sqrt(mean |f - F|^2)
    projected  sqrt(mean |P (f - F)|^2)         net force and torque removed, see ``projection``

for the model, for no force at all (``zero``), and for the baseline alone where there is one. The differences in the
*squares* of two predictors are free of the labels' noise, and the noise can be no larger than the smallest.

Intervals (95 %) are from resampling whole blocks of time, because neighbouring frames are correlated; all predictors
are resampled with the same blocks.

Symbols: f ``labels``, F ``predicted``, P ``remove_rigid``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mlsim.dataset import batches
from mlsim.dataset.frames import ForceFrames
from mlsim.fitting.solvent.bootstrap import BlockBootstrap, Interval
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.models.contract import AbstractEnergyModel
from mlsim.shapes import Floats

_BATCH = 64


@dataclass(frozen=True)
class ForceError:
    """Root-mean-square error of one predictor, kJ/mol/nm per component."""

    predictor: str
    raw: Interval
    projected: Interval


@dataclass(frozen=True)
class ForceErrors:
    """Errors of all predictors on the same frames, kJ/mol/nm."""

    rows: tuple[ForceError, ...]
    n_frames: int
    n_blocks: int
    block_ps: float
    unit: str = "kJ/mol/nm"

    def of(self, predictor: str) -> ForceError:
        """The row of ``predictor`` (``model``, ``zero`` or the baseline's name)."""
        return next(row for row in self.rows if row.predictor == predictor)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def predict(model: AbstractEnergyModel, frames: ForceFrames) -> Floats:
    """Forces [F, N, 3] (kJ/mol/nm) of ``model`` on the frames, by differentiating it exactly."""
    parameter = next(model.parameters())
    types = model.type_indices(frames.atom_types).to(parameter.device)
    charges = torch.tensor(frames.charges, dtype=parameter.dtype, device=parameter.device)
    positions = torch.tensor(frames.positions, dtype=parameter.dtype, device=parameter.device)
    parts = []
    for part in batches.consecutive(len(frames), _BATCH):
        with torch.no_grad():
            _, forces = model.energy_and_forces(positions[part], types, charges)
        parts.append(forces.cpu().numpy())
    return np.concatenate(parts)


def force_errors(frames: ForceFrames, predicted: dict[str, Floats], block_ps: float, seed: int = 1) -> ForceErrors:
    """Compare predictions with the labels of ``frames``.

    Parameters
    ----------
    frames : ForceFrames
        Held-out frames.
    predicted : dict of float [F, N, 3], kJ/mol/nm
        Forces by name of the predictor; ``zero`` is added in front.
    block_ps : float
        Length of the resampled blocks, ps.
    seed : int
        Root seed of the resampling.
    """
    blocks = BlockBootstrap(frames, block_ps, seed, "train.force_error")
    rows = []
    for name, forces in {"zero": np.zeros(1), **predicted}.items():
        error = np.asarray(frames.forces, dtype=np.float64) - forces
        internal = remove_rigid(error, frames.positions)
        raw, projected = (blocks.interval(np.square(e).mean(axis=(1, 2))) for e in (error, internal))
        rows.append(ForceError(name, raw, projected))
    return ForceErrors(tuple(rows), len(frames), blocks.n_blocks, block_ps)
