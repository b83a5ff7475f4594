"""Bandwidth rules. A rule sees only the particles, their scores and the kernel: never a reference sample.

    Fixed        h given
    Median       h^2 = median(D^2) / (2 log(N + 1)), D the distance the kernel feels (over the group: aligned distances)
    KSDAdaptive  the h on a grid around the median that maximises the kernel Stein discrepancy, i.e. the kernel that
                 separates particles and target best at this moment (Ad-SVGD)

``every`` keeps h between updates.

Symbols: h ``bandwidth``; D^2 ``squared``; N particles.
References: Liu & Wang 2016 (median); Ad-SVGD, arXiv:2510.02067 (KSD-maximising bandwidth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from mlsim.samplers.kernels.stein_kernel import SteinKernel

_FLOOR = 1e-6


class Bandwidth(Protocol):
    """A rule for h, asked before every step."""

    def choose(
        self, kernel: SteinKernel, positions: torch.Tensor, scores: torch.Tensor, previous: float, step: int
    ) -> float:
        """The bandwidth for this step; ``previous`` is 0 at the first."""


@dataclass(frozen=True)
class Fixed:
    """A given bandwidth, in the units of the positions (or features)."""

    value: float

    def choose(
        self, kernel: SteinKernel, positions: torch.Tensor, scores: torch.Tensor, previous: float, step: int
    ) -> float:
        """``value``."""
        return self.value


@dataclass(frozen=True)
class Median:
    """The median rule, times ``factor``."""

    factor: float = 1.0
    every: int = 10

    def choose(
        self, kernel: SteinKernel, positions: torch.Tensor, scores: torch.Tensor, previous: float, step: int
    ) -> float:
        """Median rule on the distances the kernel feels."""
        if previous > 0.0 and step % self.every:
            return previous
        return self.factor * median(kernel.squared_distances(positions))


#: The default rule.
MEDIAN = Median()


@dataclass(frozen=True)
class KSDAdaptive:
    """Maximise the kernel Stein discrepancy over ``factors`` times the median bandwidth."""

    factors: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
    every: int = 20

    def choose(
        self, kernel: SteinKernel, positions: torch.Tensor, scores: torch.Tensor, previous: float, step: int
    ) -> float:
        """Grid search of the discrepancy (V-statistic) of the current particles."""
        if previous > 0.0 and step % self.every:
            return previous
        centre = median(kernel.squared_distances(positions))
        values = [float(kernel.stein(positions, scores, centre * factor).mean()) for factor in self.factors]
        return centre * self.factors[max(range(len(values)), key=values.__getitem__)]


def median(squared: torch.Tensor) -> float:
    """Median-rule bandwidth of squared distances [N, N], pairs i < j only."""
    count = len(squared)
    if count < 2:
        return 1.0
    rows, columns = torch.triu_indices(count, count, 1)
    middle = float(squared[rows, columns].median())
    return max(math.sqrt(middle / (2.0 * math.log(count + 1.0))), _FLOOR)
