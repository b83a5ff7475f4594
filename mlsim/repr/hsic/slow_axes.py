"""Rotate features so that the first is the slowest: time-lagged independent component analysis on top of any features.

Of all linear combinations u . (y - mean) the slowest is the one with the largest autocorrelation at the lag,

    C_t u = lambda C_0 u,    C_0 = (<y_t y_t^T> + <y_{t+lag} y_{t+lag}^T>) / 2,    C_t = symmetrised <y_t y_{t+lag}^T>

means over all pairs of frames that lie a lag apart within one trajectory. Every process with eigenvalue lambda has the
implied timescale t = -lag / ln |lambda|.

Why after a self-supervised network: its features are defined up to a rotation only. The axes give them an order, a
scale (unit variance) and a timescale, so that they can be read, plotted and used as collective variables.

Symbols: u ``axes``; lambda ``eigenvalues``; lag in frames.

References: Molgedey & Schuster, PRL 72, 3634 (1994); Perez-Hernandez et al., J. Chem. Phys. 139, 015102 (2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.repr.pairs import time_lagged
from mlsim.shapes import Floats

#: Smallest variance of a kept direction, relative to the largest.
_KEPT = 1e-8


@dataclass(frozen=True, eq=False)
class SlowAxes:
    """Result: ``mean`` [d], ``axes`` [d, m] with unit-variance projections, ``eigenvalues`` [m], largest first."""

    mean: Floats
    axes: Floats
    eigenvalues: Floats
    lag: int

    def project(self, features: Floats) -> Floats:
        """Coordinates [T, m] of features [T, d]."""
        projected: Floats = (features - self.mean) @ self.axes
        return projected

    def timescales(self) -> Floats:
        """Implied timescales [m] in frames; zero where the autocorrelation is not positive."""
        inside = np.clip(self.eigenvalues, 1e-12, 1 - 1e-12)
        return np.where(self.eigenvalues > 0, -self.lag / np.log(inside), 0.0)


def slow_axes(trajectories: Sequence[Floats], lag: int) -> SlowAxes:
    """Slowest linear directions of trajectories of features.

    Parameters
    ----------
    trajectories : sequence of arrays [T_k, d]
        Pairs are taken within each.
    lag : int
        Frames.

    Raises
    ------
    InputError
        If no trajectory is longer than the lag, or all features are constant.
    """
    first, second = lagged_pairs(trajectories, lag)
    mean = 0.5 * (first.mean(0) + second.mean(0))
    first, second = first - mean, second - mean
    covariance = 0.5 * (first.T @ first + second.T @ second) / len(first)
    lagged = first.T @ second / len(first)
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > variances[-1] * _KEPT
    if not variances[-1] > 0:
        raise InputError("slow axes: all features are constant; expected features that change with time")
    whitening = directions[:, kept] / np.sqrt(variances[kept])
    eigenvalues, rotation = np.linalg.eigh(whitening.T @ (0.5 * (lagged + lagged.T)) @ whitening)
    axes = whitening @ rotation[:, ::-1]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return SlowAxes(mean, axes, eigenvalues[::-1].copy(), lag)


def lagged_pairs(trajectories: Sequence[Floats], lag: int) -> tuple[Floats, Floats]:
    """Frames [P, d] and those a lag later [P, d], float64, of trajectories [T_k, d]; see ``pairs.time_lagged``."""
    rows = np.concatenate([np.asarray(x, dtype=np.float64) for x in trajectories])
    first, second = time_lagged(run_numbers(trajectories), lag)
    return rows[first], rows[second]


def run_numbers(trajectories: Sequence[Floats]) -> NDArray[np.int64]:
    """Number of the trajectory of every row when they are put one after the other."""
    return np.repeat(np.arange(len(trajectories)), [len(x) for x in trajectories])
