"""Force errors freed of the labels' noise, for labels that know their own error.

A label is f = f* + e, f* the mean force and e an error of covariance C. For forces F that have not seen f,

    < |f - F|^2 > = |f* - F|^2 + tr C       hence       RMSE^2 = mean |f - F|^2 / 3n - mean tr C / 3n

is an estimate without bias of the squared error in the mean force; raw^2 still contains the noise. The same with the
projection P of :mod:`mlsim.fitting.solvent.projection`, |P (f - F)|^2 and tr P C, leaves out the labels' net forces and
torques, which are nothing but noise, and so has the smaller interval: it is the number to quote.

The square can come out negative when the error is small beside the noise; it is then shown as minus the root of its
size ("not distinguishable from zero", the interval says how far). Intervals (95 %) are from resampling blocks of time,
as in :mod:`mlsim.fitting.solvent.force_error`.

Symbols: f ``labels``, F ``predicted``, C ``covariance``, P ``rigid`` (its complement).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting.solvent.bootstrap import BlockBootstrap, Interval
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.shapes import Floats, require_shape


@dataclass(frozen=True)
class MeanForceError:
    """Root-mean-square error of one predictor, kJ/mol/nm per component.

    Attributes
    ----------
    raw : Interval
        Against the labels, noise included.
    corrected : Interval
        In the mean force.
    projected : Interval
        In the mean force, from labels without net force and torque; the number to quote.
    """

    predictor: str
    raw: Interval
    corrected: Interval
    projected: Interval


@dataclass(frozen=True)
class MeanForceErrors:
    """Errors of all predictors on the same labels, kJ/mol/nm; ``noise`` is the labels' own."""

    rows: tuple[MeanForceError, ...]
    noise: float
    n_labels: int
    unit: str = "kJ/mol/nm"

    def of(self, predictor: str) -> MeanForceError:
        """The row of ``predictor`` (``zero``, ``model``, or another name that was given)."""
        return next(row for row in self.rows if row.predictor == predictor)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def mean_force_errors(
    frames: ForceFrames, predicted: dict[str, Floats], block_ps: float, seed: int = 1
) -> MeanForceErrors:
    """Compare predictions with labels that carry the covariance of their error.

    Parameters
    ----------
    frames : ForceFrames
        Labels that no predictor was fitted to.
    predicted : dict of float [F, N, 3], kJ/mol/nm
        Forces by name of the predictor; ``zero`` is added in front.
    block_ps : float
        Length of the resampled blocks, ps.
    seed : int
        Root seed of the resampling.

    Raises
    ------
    InputError
        If the frames have no covariance, or the shapes differ.
    """
    if frames.covariance is None:
        raise InputError("noise-corrected force error: expected labels with covariance (mlsim label), got none")
    components = 3 * frames.n_atoms
    covariance = np.asarray(frames.covariance, dtype=np.float64)
    noise = np.einsum("fii->f", covariance) / components
    kept = internal_variance(frames)
    blocks = BlockBootstrap(frames, block_ps, seed, "train.mean_force_error")
    labels = np.asarray(frames.forces, dtype=np.float64)

    def interval(per_frame: Floats) -> Interval:
        return blocks.interval(per_frame, _root)

    rows = []
    for name, forces in {"zero": np.zeros_like(labels), **predicted}.items():
        error = labels - require_shape(forces, labels.shape, f"forces of {name} (kJ/mol/nm)")
        square = (error**2).mean(axis=(1, 2))
        internal = (remove_rigid(error, frames.positions) ** 2).mean(axis=(1, 2))
        rows.append(MeanForceError(name, interval(square), interval(square - noise), interval(internal - kept)))
    return MeanForceErrors(tuple(rows), float(np.sqrt(noise.mean())), len(frames))


def internal_variance(frames: ForceFrames) -> Floats:
    """Variance of each label's error without net force and torque [F], (kJ/mol/nm)^2 per component: tr P C / 3n.

    Raises
    ------
    InputError
        If the frames have no covariance.
    """
    if frames.covariance is None:
        raise InputError("noise-corrected force error: expected labels with covariance (mlsim label), got none")
    covariance = np.asarray(frames.covariance, dtype=np.float64)
    traces = [_internal_trace(c, x) for c, x in zip(covariance, frames.positions, strict=True)]
    return np.array(traces) / (3 * frames.n_atoms)


def _internal_trace(covariance: NDArray[np.float64], positions: Floats) -> float:
    """tr P C for one conformation: P C by columns, as if each were a force field."""
    n_atoms = len(positions)
    columns = covariance.T.reshape(-1, n_atoms, 3)
    projected = remove_rigid(columns, np.broadcast_to(np.asarray(positions), (len(columns), n_atoms, 3)))
    return float(np.trace(projected.reshape(len(columns), -1)))


def _root(square: Any) -> Any:
    """Square root that keeps the sign."""
    return np.sign(square) * np.sqrt(np.abs(square))
