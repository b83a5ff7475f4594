"""Radial kernels: a decreasing function of the squared distance with k(0) = 1.

    RBF   k(q) = exp(-q / 2 h^2)
    IMQ   k(q) = (1 + q / (2 beta h^2))^-beta        heavier tail, the default of Stein discrepancies

Both have the same curvature at zero, so that one bandwidth rule serves both. ``scales`` writes the kernel as a
mixture of RBFs, which turns every group integral of an RBF into one of the IMQ: (1 + q)^-beta = int t^(beta-1) exp(-t
- t q) dt / Gamma(beta), by the trapezoid rule in log t (weights normalised to k(0) = 1).

Symbols: q ``squared``; h ``bandwidth``; k', k'' derivatives by q: ``slope``, ``curvature``.
References: Liu & Wang 2016 (SVGD); Gorham & Mackey 2017, arXiv:1703.01717 (why IMQ detects non-convergence).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch


class Radial(Protocol):
    """A radial kernel and its first two derivatives by the squared distance."""

    @property
    def name(self) -> str:
        """Name for tables."""

    def value(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """k(q)."""

    def slope(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """dk/dq."""

    def curvature(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """d2k/dq2."""

    def scales(self, bandwidth: float) -> tuple[tuple[float, float], ...]:
        """Pairs (weight, RBF bandwidth) whose mixture is this kernel."""


@dataclass(frozen=True)
class RBF:
    """Gaussian kernel."""

    name: str = "rbf"

    def value(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """exp(-q / 2 h^2)."""
        return torch.exp(squared * (-0.5 / bandwidth**2))

    def slope(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """-k / 2 h^2."""
        return self.value(squared, bandwidth) * (-0.5 / bandwidth**2)

    def curvature(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """k / 4 h^4."""
        return self.value(squared, bandwidth) * (0.25 / bandwidth**4)

    def scales(self, bandwidth: float) -> tuple[tuple[float, float], ...]:
        """Itself."""
        return ((1.0, bandwidth),)


#: The default radial kernel.
GAUSSIAN = RBF()


@dataclass(frozen=True)
class IMQ:
    """Inverse multiquadric kernel with exponent ``beta`` in (0, 1)."""

    beta: float = 0.5
    name: str = "imq"

    def _base(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        return 1.0 + squared / (2.0 * self.beta * bandwidth**2)

    def value(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """(1 + q / 2 beta h^2)^-beta."""
        return self._base(squared, bandwidth) ** -self.beta

    def slope(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """First derivative by q."""
        return self._base(squared, bandwidth) ** (-self.beta - 1.0) * (-0.5 / bandwidth**2)

    def curvature(self, squared: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """Second derivative by q."""
        factor = 0.25 * (self.beta + 1.0) / (self.beta * bandwidth**4)
        return self._base(squared, bandwidth) ** (-self.beta - 2.0) * factor

    def scales(self, bandwidth: float) -> tuple[tuple[float, float], ...]:
        """Eight RBFs, widths a factor e^0.75 apart."""
        times = [math.exp(2.0 - 1.5 * step) for step in range(8)]
        weights = [time**self.beta * math.exp(-time) for time in times]
        total = sum(weights)
        return tuple((w / total, bandwidth * math.sqrt(self.beta / t)) for w, t in zip(weights, times, strict=True))
