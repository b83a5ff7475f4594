r"""How much of the weight lies in a region, and whether the data can say so: an interval that holds, or none.

What: ``occupancy`` looks at one region (a basin) of a correlated, weighted series: its population, the variance of that
by the region's *own* statistical inefficiency, and how often it was entered and left. ``Occupancy.interval`` is a
beta interval on the effective count, or nothing.

Equations. With indicator 1_t, weights w_t and p = sum w 1 / sum w, the population has the variance of the linearised
series z_t = w_t (1_t - p),

    var p = g sum z^2 / (sum w)^2,     N = p (1 - p) / var p          (independent samples behind p)

with g of z (``uncertainty``). The interval is that of Beta(p N' + 1/2, (1 - p) N' + 1/2) (Jeffreys), where

    N' = N (z_a / t_a,R-1)^2

because g was estimated from R round trips only: normal and Student quantiles of the wanted confidence. A visit that
ends and begins again within a correlation time g/2 is one visit (a border is crossed many times in one passage).

When there is no interval. With fewer than ``LEAST_TRIPS`` entries and exits neither p nor g is known: g of a region
that was seen twice is a guess, and that of one never seen cannot be had from the regions that were, so that no upper
bound can be given for it either. The same holds if the data are shorter than ``LEAST_LENGTH`` correlation times g/2.

Symbols: p -> ``value``; var p -> ``variance``; R -> ``round_trips``; N -> ``independent``.

References: L. D. Brown, T. T. Cai, A. DasGupta, Stat. Sci. 16, 101 (2001); J. D. Chodera et al., J. Chem. Theory
Comput. 3, 26 (2007); U. Wolff, Comput. Phys. Commun. 156, 143 (2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mlsim.analysis import uncertainty
from mlsim.analysis.uncertainty import Estimate
from mlsim.shapes import Floats, Ints

#: Entries and exits below which nothing but what was seen is said.
LEAST_TRIPS = 5
#: Correlation times below which nothing but what was seen is said.
LEAST_LENGTH = 50.0
#: Independent samples inside and outside below which reweighted data say nothing, however often they cross.
_LEAST_INDEPENDENT = 2.0

Verdict = Literal["converged", "not converged", "too short", "never visited", "never left"]


@dataclass(frozen=True)
class Occupancy:
    """Population of one region.

    Attributes
    ----------
    value : float
        Share of the weight, 0 .. 1.
    variance : float
        Variance of ``value`` (0 for a region never visited or never left: unknown).
    frames : int
        Frames in the region.
    entries, exits : int
        How often it was entered and left.
    length : float
        Length of the data in correlation times of the region.
    """

    value: float
    variance: float
    frames: int
    entries: int
    exits: int
    length: float

    @property
    def round_trips(self) -> int:
        """Times that it was both entered and left."""
        return min(self.entries, self.exits)

    @property
    def independent(self) -> float:
        """Independent samples behind the population."""
        return self.value * (1.0 - self.value) / self.variance if self.variance > 0.0 else 0.0

    @property
    def verdict(self) -> Verdict:
        """Whether the data can tell the population."""
        if self.frames == 0 or self.value <= 0.0:
            return "never visited"
        if self.value >= 1.0:
            return "never left"
        if self.round_trips < LEAST_TRIPS:
            return "not converged"
        if self.length < LEAST_LENGTH:
            return "too short"
        least = self.independent * min(self.value, 1.0 - self.value)
        return "converged" if least >= _LEAST_INDEPENDENT else "not converged"

    def shape(self, confidence: float = 0.95) -> tuple[float, float]:
        """Both parameters of the beta distribution of the population."""
        trips = max(2.0, min(float(self.round_trips), 2.0 * self.independent * self.value * (1.0 - self.value)))
        upper = 0.5 + 0.5 * confidence
        known = self.independent * float(stats.norm.ppf(upper) / stats.t.ppf(upper, trips - 1.0)) ** 2
        return self.value * known + 0.5, (1.0 - self.value) * known + 0.5

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Population with its interval; without bounds unless the verdict is ``converged``."""
        if self.verdict != "converged":
            return Estimate.unbounded(self.value)
        tail = 0.5 * (1.0 - confidence)
        low, high = stats.beta.ppf([tail, 1.0 - tail], *self.shape(confidence))
        return Estimate(self.value, min(float(low), self.value), max(float(high), self.value))

    def draws(self, count: int, generator: np.random.Generator, confidence: float = 0.95) -> Floats:
        """Draws [count] from the distribution of the population (verdict ``converged`` only)."""
        return np.asarray(generator.beta(*self.shape(confidence), size=count))

    @property
    def seen(self) -> str:
        """What is known, in words."""
        if self.verdict in ("never visited", "never left"):
            return self.verdict
        entered = f"entered {self.entries} x, left {self.exits} x, {self.frames} frames"
        if self.verdict == "too short":
            return f"not converged ({entered}; {self.length:.0f} correlation times)"
        return f"not converged ({entered})" if self.verdict == "not converged" else entered


def occupancy(inside: np.ndarray, weights: Floats, run: Ints, among: np.ndarray | None = None) -> Occupancy:
    """Population of a region.

    Parameters
    ----------
    inside : bool [F]
        Frames in the region.
    weights : [F]
        Non-negative weights, any scale.
    run : [F]
        Run of each frame, grouped.
    among : bool [F] or None
        Only these frames are counted (they hold the region): its share of a union of regions.
    """
    weights = weights if among is None else weights * among
    total = weights.sum()
    value = float(weights[inside].sum() / total) if total > 0.0 else 0.0
    frames = int(inside.sum())
    if frames == 0 or not 0.0 < value < 1.0:
        length = 0.0
        return Occupancy(value, 0.0, frames, *visits(inside, run, 1.0), length)
    g = uncertainty.statistical_inefficiency(inside.astype(np.float64), weights, run)
    z = weights * (inside - value)
    variance = float(g * np.square(z).sum() / total**2)
    return Occupancy(value, variance, frames, *visits(inside, run, 0.5 * g), 2.0 * len(inside) / g)


def visits(inside: np.ndarray, run: Ints, shortest: float) -> tuple[int, int]:
    """How often a region is entered and left; an absence of fewer than ``shortest`` frames is none.

    A run that begins inside has not entered, one that ends inside has not left.
    """
    entries = exits = 0
    for part in uncertainty.run_slices(run):
        steps = np.diff(np.concatenate([[0], inside[part].astype(np.int8), [0]]))
        starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        if len(starts) == 0:
            continue
        real = starts[1:] - ends[:-1] >= shortest
        entries += int(real.sum()) + int(starts[0] > 0)
        exits += int(real.sum()) + int(ends[-1] < part.stop - part.start)
    return entries, exits


def pooled(parts: list[Occupancy], shares: Floats) -> Occupancy:
    """Independent data of one ensemble taken together, ``shares`` [S] of the frames each.

    Variances add; where the parts disagree more than their variances say (chi squared beyond 95 %), or one of them
    cannot tell its own, the spread between them counts.
    """
    value = float(np.dot(shares, [p.value for p in parts]))
    within = float(np.dot(np.square(shares), [p.variance for p in parts]))
    spread = np.square(np.array([p.value for p in parts]) - value)
    between = float(np.dot(np.square(shares), spread)) * len(parts) / max(1, len(parts) - 1)
    variances = np.array([p.variance for p in parts])
    told = bool((variances > 0.0).all())
    surprising = told and float((spread / variances).sum()) > stats.chi2.ppf(0.95, max(1, len(parts) - 1))
    variance = max(within, between) if surprising or not told else within
    return Occupancy(
        value,
        variance,
        sum(p.frames for p in parts),
        sum(p.entries for p in parts),
        sum(p.exits for p in parts),
        sum(p.length for p in parts),
    )
