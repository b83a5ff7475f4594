"""Stein kernels: the velocity a set of particles induces, and the discrepancy it has from the target.

For a matrix-valued kernel K the SVGD velocity and the Stein kernel are

    phi(x)   = 1/N sum_j [ K(x, x_j) s_j + div_j K(x, x_j) ]
    u(x, x') = s . K s' + s . div' K + s' . div K + div div' K          KSD^2 = mean of u over all pairs

Group-integrated kernels K_G(x, x') = int k(x, g x') R_g dg make phi an equivariant vector field for any finite set of
particles, and N particles then act like |G| N: phi is that of plain SVGD on all orbit copies, with N scores only.
This file: the contract, and ``ExplicitKernel``, the sum over all elements of a finite group (C_n, D_n, S_n, products;
the trivial group gives plain SVGD). Only the second argument is differentiated: the repulsion is counted once.

Symbols: x ``at`` [M, d]; x_j ``positions`` [N, d]; s_j ``scores`` [N, d]; h ``bandwidth``; g x_j ``images``.
References: Liu & Wang 2016, arXiv:1608.04471; Jaini, Holdijk & Welling 2021, arXiv:2106.07832; Reisert & Burkhardt
2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mlsim.samplers.groups.symmetry import Symmetry
from mlsim.samplers.kernels.radial_kernel import GAUSSIAN, Radial

#: What a kernel may keep between steps (alignments); None for closed forms.
Memory = Any


class SteinKernel(Protocol):
    """A matrix-valued kernel, seen through what samplers need of it."""

    @property
    def name(self) -> str:
        """Name for tables."""

    @property
    def symmetry(self) -> Symmetry:
        """The group the kernel is equivariant under."""

    def prepare(self, positions: torch.Tensor, memory: Memory) -> Memory:
        """What ``field(positions, positions, ...)`` may reuse; given last step's, returns this step's."""

    def field(
        self, at: torch.Tensor, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float, memory: Memory
    ) -> torch.Tensor:
        """phi [M, d] at ``at`` [M, d], induced by ``positions`` and ``scores`` [N, d]."""

    def stein(self, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """u [N, N] between all pairs."""

    def diagonal(self, positions: torch.Tensor, bandwidth: float) -> float:
        """Mean size of K(x, x), about 1/|G| for a sharp kernel; divided by it, K(x, x) is near the unit matrix."""

    def squared_distances(self, positions: torch.Tensor) -> torch.Tensor:
        """Squared distance [N, N] the kernel feels: the smallest over the group."""


@dataclass(frozen=True)
class ExplicitKernel:
    """K(x, x') = 1/|G| sum_g k(x, g x') R_g over all elements of a finite group.

    Attributes
    ----------
    symmetry : Symmetry
        Finite, at most ``symmetry.ENUMERABLE`` permutations.
    radial : Radial
        Scalar kernel k.
    """

    symmetry: Symmetry
    radial: Radial = GAUSSIAN

    @property
    def name(self) -> str:
        """E.g. ``"explicit rbf C4"``."""
        return f"explicit {self.radial.name} {self.symmetry.name}"

    def prepare(self, positions: torch.Tensor, memory: Memory) -> Memory:
        """Nothing to keep."""
        return None

    def _images(self, vectors: torch.Tensor) -> torch.Tensor:
        """All orbit copies, [|G|, N, d]."""
        elements = self.symmetry.elements(vectors.dtype)
        if len(elements) == 1:
            return vectors[None]
        return torch.stack([self.symmetry.act(element, vectors) for element in elements])

    def field(
        self, at: torch.Tensor, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float, memory: Memory
    ) -> torch.Tensor:
        """phi [M, d]; see ``SteinKernel``."""
        images = self._images(positions).flatten(0, 1)
        pulls = self._images(scores).flatten(0, 1)
        squared = squared_distances(at, images)
        slope = 2.0 * self.radial.slope(squared, bandwidth)
        velocity = self.radial.value(squared, bandwidth) @ pulls + slope @ images - slope.sum(1, keepdim=True) * at
        return velocity / len(images)

    def stein(self, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """u [N, N]; see ``SteinKernel``."""
        total = positions.new_zeros((len(positions), len(positions)))
        images, pulls = self._images(positions), self._images(scores)
        own = (scores * positions).sum(-1)
        for image, pull in zip(images, pulls, strict=True):
            squared = squared_distances(positions, image)
            slope = 2.0 * self.radial.slope(squared, bandwidth)
            forward = scores @ image.mT - own[:, None]
            backward = positions @ pull.mT - own[None, :]
            total += self.radial.value(squared, bandwidth) * (scores @ pull.mT) + slope * (forward + backward)
            total -= slope * self.symmetry.freedom + 4.0 * self.radial.curvature(squared, bandwidth) * squared
        return total / len(images)

    def diagonal(self, positions: torch.Tensor, bandwidth: float) -> float:
        """Mean of k(x, g x) over particles and elements."""
        squared = ((self._images(positions) - positions) ** 2).sum(-1)
        return float(self.radial.value(squared, bandwidth).mean())

    def squared_distances(self, positions: torch.Tensor) -> torch.Tensor:
        """Smallest squared distance over the group, [N, N]."""
        return torch.stack([squared_distances(positions, image) for image in self._images(positions)]).amin(0)


def squared_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """|x - y|^2 [M, N] of vectors [M, d] and [N, d], never negative."""
    products = first @ second.mT
    return ((first**2).sum(-1)[:, None] + (second**2).sum(-1)[None, :] - 2.0 * products).clamp_(min=0.0)
