r"""Block bootstrap: intervals for correlated, weighted time series.

What: the statistical inefficiency of a weighted average, blocks that follow from it, and resampling of those blocks.

Why not single frames: neighbouring frames are nearly copies of each other, so that resampling frames understates every
error. Blocks of several correlation times are nearly independent; they never straddle two runs.

Equations. A weighted average <A> = sum_t w_t A_t / sum_t w_t has the linearised series z_t = w_t (A_t - <A>). With its
autocorrelation rho_tau (the mean of *all* runs subtracted, so that runs stuck in different basins count as correlated)

    g = 1 + 2 sum_tau rho_tau              statistical inefficiency, frames

The sum ends with Geyer's initial positive pairs, made to fall; since the mean is estimated from the same frames, g is
raised by the factor 1 + (2 M + 1) / F for a window of M lags and F frames (Wolff). Each region has a g of its own
(``occupancy``); the blocks here follow the slowest.

Blocks hold about 5 g frames (the variance of block means is then low by about g/2 per block length, 10 %), never
fewer than ``MIN_BLOCKS`` in all where the data allow it, and no more than ``MAX_BLOCKS`` (more changes nothing).
A replicate draws K - 1 of K blocks with replacement (Rao and Wu), so that the variance of a mean is unbiased.

Symbols: g -> ``inefficiency``; K -> ``n_blocks``; z -> ``series``; w -> ``weights``.

References: C. J. Geyer, Stat. Sci. 7, 473 (1992); U. Wolff, Comput. Phys. Commun. 156, 143 (2004); J. N. K. Rao and
C. F. J. Wu, J. Am. Stat. Assoc. 83, 231 (1988); J. D. Chodera et al., J. Chem. Theory Comput. 3, 26 (2007).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from mlsim.errors import InputError
from mlsim.shapes import Floats, Ints

MIN_BLOCKS = 10
MAX_BLOCKS = 200
BLOCK_LENGTHS = 5.0


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, in the unit its owner states; bounds are NaN where the data give none."""

    value: float
    low: float
    high: float

    @classmethod
    def unbounded(cls, value: float) -> Estimate:
        """A number without an interval."""
        return cls(value, float("nan"), float("nan"))

    @property
    def bounded(self) -> bool:
        """Whether it has an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit (``factor`` > 0)."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def covers(self, truth: float) -> bool:
        """Whether the interval holds ``truth``."""
        return self.low <= truth <= self.high


def percentile_interval(value: float, replicates: Floats, confidence: float = 0.95) -> Estimate:
    """Percentile bootstrap interval.

    Parameters
    ----------
    value : float
        The estimate from all data.
    replicates : [R]
        The same estimate from resampled data (no unit conversion is made).
    confidence : float
        Central probability of the interval.
    """
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.asarray(replicates), [tail, 100.0 - tail])
    return Estimate(float(value), float(low), float(high))


def recentred_interval(value: float, replicates: Floats, confidence: float = 0.95) -> Estimate:
    """Percentile interval of a non-negative measure of distance, re-centred on its value and cut at zero.

    A resampled distance (JS, squared RMSE) carries the noise of the data twice and therefore lies too high on average;
    the shift of the replicates' mean back to ``value`` takes the second helping out again.
    """
    replicates = np.asarray(replicates)
    shifted = replicates - replicates.mean() + value
    interval = percentile_interval(value, shifted, confidence)
    return Estimate(interval.value, max(0.0, interval.low), max(0.0, interval.high))


def effective_samples(log_weights: Floats) -> float:
    """Kish's effective number of samples, (sum w)^2 / sum w^2, from log weights [F] (any constant offset)."""
    weights = np.exp(log_weights - np.max(log_weights))
    return float(weights.sum() ** 2 / np.square(weights).sum())


def run_slices(run: Ints) -> list[slice]:
    """Slices of consecutive frames of one run (``run`` [F], grouped)."""
    cuts = np.flatnonzero(np.diff(run)) + 1
    bounds = [0, *cuts.tolist(), len(run)]
    if len({int(run[b]) for b in bounds[:-1]}) != len(bounds) - 1:
        raise InputError("run: frames of one run must follow each other; expected grouped run indices")
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def statistical_inefficiency(series: Floats, weights: Floats, run: Ints) -> float:
    """Statistical inefficiency g >= 1 (frames) of the weighted average of one observable.

    Parameters
    ----------
    series : [F]
        Observable at each frame, any unit.
    weights : [F]
        Non-negative weights, any scale.
    run : [F]
        Run index of each frame; frames of one run are consecutive.
    """
    weights = weights / weights.sum()
    z = weights * (series - np.dot(weights, series))
    z = z - z.mean()
    longest = max(s.stop - s.start for s in run_slices(run))
    products, pairs = np.zeros(longest), np.zeros(longest)
    for part in run_slices(run):
        n = part.stop - part.start
        size = next_fast_len(2 * n, real=True)
        spectrum = rfft(z[part], size)
        products[:n] += irfft(spectrum * np.conj(spectrum), size)[:n]
        pairs[:n] += np.arange(n, 0, -1)
    if not products[0] > 0.0:
        return 1.0
    rho = (products / pairs) / (products[0] / pairs[0])
    pair_sums = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    stops = np.flatnonzero(pair_sums <= 0.0)
    window = int(stops[0]) if len(stops) else len(pair_sums)
    g = 2.0 * np.minimum.accumulate(pair_sums[:window]).sum() - 1.0
    return float(max(1.0, g * (1.0 + (4.0 * window + 1.0) / pairs[0])))


def block_labels(run: Ints, block_frames: float) -> Ints:
    """Cut every run into equal blocks of about ``block_frames`` frames.

    Parameters
    ----------
    run : [F]
        Run index of each frame, grouped.
    block_frames : float
        Wanted block length, frames; a run shorter than it is one block.

    Returns
    -------
    [F]
        Block index of each frame, 0 .. K-1.
    """
    labels = np.empty(len(run), dtype=np.int64)
    first = 0
    for part in run_slices(run):
        n = part.stop - part.start
        count = max(1, round(n / max(1.0, block_frames)))
        labels[part] = first + np.arange(n) * count // n
        first += count
    return labels


def choose_block_frames(inefficiency: float, n_frames: int) -> float:
    """Block length in frames: ``BLOCK_LENGTHS`` x g, within the limits on the number of blocks."""
    wanted = BLOCK_LENGTHS * inefficiency
    return float(max(1.0, min(max(wanted, n_frames / MAX_BLOCKS), n_frames / MIN_BLOCKS)))


def block_counts(n_blocks: int, replicates: int, generator: np.random.Generator) -> Floats:
    """How often each block enters each replicate, [replicates, n_blocks]; each row draws K - 1 blocks.

    Raises
    ------
    InputError
        If there are fewer than two blocks: no error can be told from one.
    """
    if n_blocks < 2:
        raise InputError("bootstrap: expected at least 2 blocks, got 1; give a longer run or a smaller block length")
    return generator.multinomial(n_blocks - 1, np.full(n_blocks, 1.0 / n_blocks), size=replicates).astype(np.float64)


def split_labels(run: Ints, most: int = 4) -> Ints:
    """Independent parts of the data for a noise estimate: runs (in up to ``most`` groups), or halves of a single run.

    Parameters
    ----------
    run : [F]
        Run index of each frame, grouped.

    Returns
    -------
    [F]
        Part index of each frame, 0 .. S-1 with 2 <= S <= ``most``.
    """
    parts = run_slices(run)
    labels = np.empty(len(run), dtype=np.int64)
    if len(parts) == 1:
        labels[:] = np.arange(len(run)) * 2 // len(run)
        return labels
    groups = min(most, len(parts))
    for index, part in enumerate(parts):
        labels[part] = index % groups
    return labels
