"""The data-augmented particle set: negatives that feel the data.

In E-SVGD every particle moves along the mean velocity that all particles induce. Here the data batch is appended to
the inducing set, with scores of the present model, but does not move:

    phi(x) = 1/(N + M) [ sum_fakes + sum_data ] ( K(x, y) s(y) + div_y K(x, y) )

so that negatives are drawn to the data's high-density regions and repelled from the data themselves. It is an option
and not the default because the negatives then are no longer samples of the model: the gradient of the loss is
biased towards what separates data from points *near* the data. The published code does this always and silently.

Symbols: N ``positions``, M ``data``, s ``scores``.
Reference: Jaini, Holdijk & Welling 2021, arXiv:2106.07832, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlsim.samplers import SteinKernel, Symmetry
from mlsim.samplers.kernels.stein_kernel import Memory


@dataclass(frozen=True, eq=False)
class AugmentedKernel:
    """A Stein kernel whose velocity is induced by the particles and by fixed data.

    Attributes
    ----------
    kernel : SteinKernel
    data, scores : Tensor [M, d]
    """

    kernel: SteinKernel
    data: Tensor
    scores: Tensor

    @property
    def name(self) -> str:
        """Name for tables."""
        return f"{self.kernel.name} + {len(self.data)} data"

    @property
    def symmetry(self) -> Symmetry:
        """That of the kernel."""
        return self.kernel.symmetry

    def prepare(self, positions: Tensor, memory: Memory) -> Memory:
        """Nothing is kept: the inducing set is not the moving one."""
        return None

    def field(self, at: Tensor, positions: Tensor, scores: Tensor, bandwidth: float, memory: Memory) -> Tensor:
        """Velocity [K, d] at ``at`` [K, d]."""
        everything, pulls = torch.cat([positions, self.data]), torch.cat([scores, self.scores])
        return self.kernel.field(at, everything, pulls, bandwidth, None)

    def stein(self, positions: Tensor, scores: Tensor, bandwidth: float) -> Tensor:
        """Of the particles alone."""
        return self.kernel.stein(positions, scores, bandwidth)

    def diagonal(self, positions: Tensor, bandwidth: float) -> float:
        """Of the particles alone."""
        return self.kernel.diagonal(positions, bandwidth)

    def squared_distances(self, positions: Tensor) -> Tensor:
        """Between the particles alone."""
        return self.kernel.squared_distances(positions)
