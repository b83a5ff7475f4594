r"""Variance of every bin of a histogram by the bin's own correlation, all bins in one pass.

What: as ``occupancy`` does it for one region, for hundreds of bins: the variance of p_b = sum w 1_b / sum w is

    var p_b = g_b sum_t z_t^2 / (sum w)^2,     z_t = w_t (1_b(t) - p_b),     g_b = 1 + 2 sum_tau rho_b(tau)

Why not one g for all: a bin on a slope is left within a frame, one in a rare basin holds the chain for a long time.

How: the products of all bins at one lag are three weighted counts of frames,
sum ww' 1_b 1_b' - p_b (sum ww' 1_b + sum ww' 1_b') + p_b^2 sum ww'. Lags are taken one by one first and then in steps
of a quarter of the lag, rho in between on straight lines; each bin's sum ends where its rho, made to fall, first is
not positive.

What a bin shares with its whole basin is a long, low tail of rho that such a sum can lose in the noise. Blocks do not
lose it, where they are long; so ``surface.estimate`` takes the larger of this variance and that of the block bootstrap.

Symbols: p -> ``population``; rho -> ``rho``; tau -> ``lag``; g -> ``inefficiency``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from mlsim.analysis.occupancy import LEAST_TRIPS
from mlsim.analysis.surfaces import histogram
from mlsim.analysis.uncertainty import run_slices
from mlsim.shapes import Floats, Ints

_DENSE = 8
_GROWTH = 1.25


def variances(index: Ints, size: int, weights: Floats, run: Ints) -> tuple[Floats, Ints]:
    """Variance of the population of every bin, and how often each was entered.

    Parameters
    ----------
    index : [F]
        Bin of each frame, 0 .. size-1.
    weights : [F]
        Non-negative weights, any scale.
    run : [F]
        Run of each frame, grouped.

    Returns
    -------
    variance : [size]
        Of the share of the weight (0 for a bin without frames).
    entries : [size]
        Times that the bin was entered from another one.
    """
    weights = weights / weights.sum()
    population: Floats = np.bincount(index, weights=weights, minlength=size).astype(np.float64)
    squares = np.bincount(index, weights=weights**2, minlength=size)
    own = squares * (1.0 - 2.0 * population) + population**2 * np.square(weights).sum()
    seen = own > 1e-30
    longest = max(s.stop - s.start for s in run_slices(run))
    frames, total = len(index), np.ones(size)
    before: Floats = np.ones(size)
    last, active = 0, seen.copy()
    reach = np.zeros(size)
    for lag in _lags(longest):
        if not active.any():
            break
        rho, pairs = _correlation(index, size, weights, run, lag, population)
        if pairs == 0:
            break
        rho = np.where(active, rho / pairs / np.where(seen, own / frames, 1.0), 0.0)
        active &= rho > 0.0
        rho = np.where(active, np.minimum(rho, before), 0.0)
        steps = lag - last
        total += np.where(active, 2.0 * (steps * 0.5 * (before + rho) + 0.5 * (rho - before)), 0.0)
        reach = np.where(active, lag, reach)
        before, last = rho, lag
    inefficiency = np.maximum(1.0, total * (1.0 + (2.0 * reach + 1.0) / frames))
    changes = np.flatnonzero((np.diff(index) != 0) & (np.diff(run) == 0)) + 1
    return np.where(seen, own * inefficiency, 0.0), np.bincount(index[changes], minlength=size)


def marginals(
    cv: Floats, cv_names: Sequence[str], edges: tuple[Floats, ...], weights: Floats, runs: Ints
) -> tuple[tuple[Floats, Ints], ...]:
    """Variance and entries of the bins of each CV alone."""
    found = []
    for axis, name in enumerate(cv_names):
        index = histogram.bin_index(cv[:, axis : axis + 1], edges[axis : axis + 1], (name,))
        size = len(edges[axis]) - 1
        variance, entries = variances(np.where(index < 0, size, index), size + 1, weights, runs)
        found.append((variance[:-1], entries[:-1]))
    return tuple(found)


def independent(population: Floats, variance: Floats) -> Floats:
    """Independent visits behind each population (arrays of one shape); 0 where no frame fell."""
    safe = np.where(variance > 0.0, variance, 1.0)
    return np.where(variance > 0.0, np.square(population) * (1.0 - population) / safe, 0.0)


def told(visits: Floats, entries: Ints) -> np.ndarray:
    """Which bins were entered often enough for an interval; ``visits`` are the independent ones."""
    return np.asarray(np.minimum(entries, 2.0 * visits) >= LEAST_TRIPS)


def bounds(population: Floats, visits: Floats, entries: Ints, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper end of each population by the rule of ``occupancy``.

    Parameters
    ----------
    population, visits, entries : [...]
        Share of the weight, independent visits behind it, and how often each bin was entered.
    confidence : float
        Central probability.
    """
    trips = np.maximum(2.0, np.minimum(entries, 2.0 * visits))
    upper = 0.5 + 0.5 * confidence
    known = visits * np.square(stats.norm.ppf(upper) / stats.t.ppf(upper, trips - 1.0))
    outside = known * (1.0 - population) / np.where(population > 0.0, population, 1.0)
    low, high = (stats.beta.ppf(q, known + 0.5, outside + 0.5) for q in (1.0 - upper, upper))
    return np.asarray(low), np.asarray(high)


def _lags(longest: int) -> list[int]:
    lags, lag = [], 1
    while lag < longest // 2:
        lags.append(lag)
        lag = lag + 1 if lag < _DENSE else max(lag + 1, int(lag * _GROWTH))
    return lags


def _correlation(
    index: Ints, size: int, weights: Floats, run: Ints, lag: int, population: Floats
) -> tuple[Floats, int]:
    """Sum of z z' of all pairs of frames ``lag`` apart, [size], and the number of pairs."""
    left, right = index[:-lag], index[lag:]
    products = weights[:-lag] * weights[lag:]
    together = run[:-lag] == run[lag:]
    if not together.all():
        left, right, products = left[together], right[together], products[together]
    same = left == right
    both = np.bincount(left[same], weights=products[same], minlength=size)
    single = np.bincount(left, weights=products, minlength=size) + np.bincount(right, weights=products, minlength=size)
    return both - population * single + population**2 * products.sum(), len(products)
