"""The mean of a correlated vector series and the covariance of its error.

A held solute feels f(t), K samples of 3n components. Their mean has the covariance C, and two things are wanted of it:
its trace, without bias, because it is subtracted from squared errors; a usable inverse, because it weights the label.

    trace:   b blocks of K/b samples, block means m;  V_b = sum_i var_i(m) / b
             tr C = 2 V_b - V_2b                      (2b: the same blocks cut in two)
    shape:   C = D S D,   D_i^2 = g_i / K,   S the covariance of the samples
             g_i from the block variances of component i, drawn towards the common g = K tr C / tr S

V_b is too small by the correlation across block borders, a share t/L for blocks of length L; V_2b by twice that. The
combination is free of this first-order bias ("lugsail" batch means). C inherits positive definiteness from S, which
blocks alone could not give: they are fewer than the components.

Why not integrate an autocorrelation function: that of a solvent force has an oscillating start (librations of water)
and a weak slow tail (exchange of waters), and every rule that cuts it off is wrong for one of them.

Symbols: f ``series``, K ``n_samples``, b ``blocks``, g ``inefficiency``, C ``covariance``.

References: Flegal and Jones, Ann. Stat. 38, 1034 (2010); Vats and Flegal, Biometrika 109, 735 (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.shapes import Floats, require_shape

#: Blocks of a series; each is cut in two for the correction.
BLOCKS = 16
#: Samples below which no error is estimated.
LEAST_SAMPLES = 4 * BLOCKS
#: Strength, in blocks, with which a component's inefficiency is drawn towards the common one.
_PRIOR_BLOCKS = 16


@dataclass(frozen=True, eq=False)
class Average:
    """A mean with its error.

    Attributes
    ----------
    mean : float64 [D]
    covariance : float64 [D, D]
        Of the error of ``mean``.
    inefficiency : float
        Samples that are worth one independent sample.
    n_samples : int
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    inefficiency: float
    n_samples: int

    @property
    def stderr(self) -> float:
        """Root-mean-square standard error of a component."""
        return float(np.sqrt(np.trace(self.covariance) / len(self.mean)))


def error_trace(series: Floats) -> float:
    """tr C of the mean of ``series`` [K, D], free of first-order bias."""
    fine = _block_variances(series, 2 * BLOCKS).sum() / (2 * BLOCKS)
    coarse = _block_variances(series, BLOCKS).sum() / BLOCKS
    return float(max(2 * coarse - fine, 0.5 * coarse))


def average(series: Floats) -> Average:
    """Mean of a series and covariance of its error.

    Parameters
    ----------
    series : float [K, D]
        Samples at equal times, K >= 64.

    Raises
    ------
    InputError
        If the series is too short.
    """
    f = np.asarray(require_shape(series, (None, None), "series to average"), dtype=np.float64)
    n_samples = len(f)
    if n_samples < LEAST_SAMPLES:
        raise InputError(
            f"average: expected at least {LEAST_SAMPLES} samples, got {n_samples}; sample longer or denser"
        )
    trace = error_trace(f)
    deviations = f - f.mean(axis=0)
    spread = deviations.T @ deviations / n_samples
    total = float(np.trace(spread))
    if not total > 0:
        return Average(f.mean(axis=0), np.zeros_like(spread), 1.0, n_samples)
    share = trace / (total + trace)  # of the variance that the mean itself took away
    spread /= 1 - share
    inefficiency = n_samples * trace / float(np.trace(spread))
    own = np.diag(spread)
    raw = np.divide(n_samples / BLOCKS * _block_variances(f, BLOCKS), own, out=np.zeros_like(own), where=own > 0)
    per_component = (_PRIOR_BLOCKS * inefficiency + (BLOCKS - 1) * raw) / (_PRIOR_BLOCKS + BLOCKS - 1)
    per_component *= trace * n_samples / float(per_component @ own)
    scale = np.sqrt(per_component / n_samples)
    return Average(f.mean(axis=0), spread * np.outer(scale, scale), inefficiency, n_samples)


def _block_variances(series: Floats, blocks: int) -> NDArray[np.float64]:
    """Variance [D] of the means of ``blocks`` equal blocks (the remainder at the start is left out)."""
    length = len(series) // blocks
    kept = series[len(series) - length * blocks :]
    means = kept.reshape(blocks, length, -1).mean(axis=1)
    return np.asarray(means.var(axis=0, ddof=1), dtype=np.float64)
