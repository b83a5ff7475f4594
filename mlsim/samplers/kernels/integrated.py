"""Group-integrated kernels in closed form: RBF (or a mixture of RBFs) over rotations x permutations.

For y = g x_j the exponent of the RBF is linear in the rotation, so the two moments w, M of ``rotations`` at overlap
A = sum_k x_k y_k^T / h^2 with shift (|x|^2 + |y|^2)/2h^2 give the exact field of *all* orbit copies:

    phi(x) = 1/(N |P|) sum_{j, pi} [ M (s_j - y_j / h^2) + w x / h^2 ]
    u(x, y) = w [ (s.x + s'.y)/h^2 + D/h^2 - (|x|^2 + |y|^2)/h^4 ] + M : [ (s - x/h^2)(s' - y/h^2)^T + x y^T / h^4 ]

summed over the permutations pi within species. This is exact DW-4 over O(2) x S4 with 24 (not infinitely many) terms.

Symbols: x ``at``; y ``images`` (permuted particles); s' ``pulls``; D ``symmetry.freedom``; w ``weight``; M ``first``;
A ``overlap``; M (s_j - y_j/h^2) ``drift``.
References: derived for this package from Jaini et al. 2021 and Reisert & Burkhardt 2007.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mlsim.samplers.groups.symmetry import Symmetry
from mlsim.samplers.kernels.radial_kernel import GAUSSIAN, Radial
from mlsim.samplers.kernels.stein_kernel import Memory

#: Pairs handled at once: temporaries stay in cache.
_CHUNK = 1 << 14


@dataclass(frozen=True)
class IntegratedKernel:
    """K(x, x') = int k(x, g x') R_g dg over rotations and within-species permutations.

    Attributes
    ----------
    symmetry : Symmetry
        Any rotations (finite, SO, O); at most ``symmetry.ENUMERABLE`` permutations.
    radial : Radial
        RBF, or a kernel with ``scales`` (each scale costs as much as one RBF).
    """

    symmetry: Symmetry
    radial: Radial = GAUSSIAN

    @property
    def name(self) -> str:
        """E.g. ``"integrated rbf O(2) x S4 x T"``."""
        return f"integrated {self.radial.name} {self.symmetry.name}"

    def prepare(self, positions: torch.Tensor, memory: Memory) -> Memory:
        """Nothing to keep."""
        return None

    def _images(self, vectors: torch.Tensor) -> torch.Tensor:
        """Permuted copies as points, [P N, n, s]."""
        return _permuted(self.symmetry.shaped(vectors), self.symmetry.permutations())

    def _overlaps(self, at: torch.Tensor, images: torch.Tensor) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Blocks of sum_k x_k y_k^T as (rows, columns, [s, s, m, q])."""
        width = min(len(images), _CHUNK)
        height = max(1, _CHUNK // width)
        for top in range(0, len(at), height):
            rows = slice(top, min(top + height, len(at)))
            for start in range(0, len(images), width):
                columns = slice(start, min(start + width, len(images)))
                yield rows, columns, _overlap(at[rows], images[columns])

    def field(
        self, at: torch.Tensor, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float, memory: Memory
    ) -> torch.Tensor:
        """phi [M, d]; see ``kernels.SteinKernel``. With ``at is positions`` each pair is integrated once."""
        x, y, s = self.symmetry.shaped(at), self.symmetry.shaped(positions), self.symmetry.shaped(scores)
        velocity = torch.zeros_like(x)
        side = max(1, math.isqrt(_CHUNK // self.symmetry.permutation_count))
        for share, width in self.radial.scales(bandwidth):
            drift = s - y / width**2
            if at is positions:
                self._pairs(x, drift, share, 1.0 / width**2, side, velocity)
            else:
                self._sources(x, y, drift, share, 1.0 / width**2, side, velocity)
        return (velocity / (len(y) * self.symmetry.permutation_count)).reshape(at.shape)

    def _sources(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        drift: torch.Tensor,
        share: float,
        precision: float,
        side: int,
        velocity: torch.Tensor,
    ) -> None:
        """Add to ``velocity`` [M, n, s] what sources y push at x."""
        table = self.symmetry.permutations()
        for i in range(0, len(x), side):
            here = slice(i, i + side)
            for j in range(0, len(y), side):
                images, pushes = _permuted(y[j : j + side], table), _permuted(drift[j : j + side], table)
                weight, first = self._moments(x[here], images, precision)
                velocity[here] += share * (_turned(first, pushes) + precision * weight.sum(1)[:, None, None] * x[here])

    def _pairs(
        self, x: torch.Tensor, drift: torch.Tensor, share: float, precision: float, side: int, velocity: torch.Tensor
    ) -> None:
        """The same for sources at x themselves, using K(x', x) = K(x, x')^T: half the integrals."""
        table = self.symmetry.permutations()
        inverse = table.argsort(dim=1)
        for j in range(0, len(x), side):
            there = slice(j, j + side)
            images, pushes = _permuted(x[there], table), _permuted(drift[there], table)
            for i in range(0, j + 1, side):
                here = slice(i, i + side)
                weight, first = self._moments(x[here], images, precision)
                velocity[here] += share * (_turned(first, pushes) + precision * weight.sum(1)[:, None, None] * x[here])
                if i == j:
                    continue
                back = _turned(first.transpose(0, 1).transpose(2, 3), drift[here])
                back = back.view(len(table), -1, *back.shape[1:])
                index = inverse[:, None, :, None].expand_as(back)
                total = weight.sum(0).view(len(table), -1).sum(0)[:, None, None]
                velocity[there] += share * (back.gather(2, index).sum(0) + precision * total * x[there])

    def _moments(self, x: torch.Tensor, images: torch.Tensor, precision: float) -> tuple[torch.Tensor, torch.Tensor]:
        """w [m, q] and M [s, s, m, q] of one block of pairs."""
        norms = torch.add((x**2).sum((-2, -1))[:, None], (images**2).sum((-2, -1))[None, :])
        return self.symmetry.rotations.moments(_overlap(x, images * precision), norms.mul_(0.5 * precision))

    def diagonal(self, positions: torch.Tensor, bandwidth: float) -> float:
        """Mean of K(x, x), as a multiple of the unit matrix (its weight w)."""
        x = self.symmetry.shaped(positions)
        images = _permuted(x, self.symmetry.permutations())
        rows = x.repeat(self.symmetry.permutation_count, 1, 1)
        overlap = torch.einsum("qka,qkb->abq", rows, images)
        norms = (x**2).sum((-2, -1)).repeat(self.symmetry.permutation_count)
        total = 0.0
        for share, width in self.radial.scales(bandwidth):
            weight, _ = self.symmetry.rotations.moments(overlap / width**2, norms / width**2)
            total += share * float(weight.mean())
        return total

    def stein(self, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """u [N, N]; see ``kernels.SteinKernel``."""
        x, s = self.symmetry.shaped(positions), self.symmetry.shaped(scores)
        images, pulls = self._images(positions), self._images(scores)
        x_norm, y_norm = (x**2).sum((-2, -1)), (images**2).sum((-2, -1))
        x_own, y_own = (x * s).sum((-2, -1)), (images * pulls).sum((-2, -1))
        total = positions.new_zeros((len(positions), len(images)))
        for share, width in self.radial.scales(bandwidth):
            precision = 1.0 / width**2
            left, right = s - x * precision, pulls - images * precision
            for rows, columns, overlap in self._overlaps(x, images):
                norms = torch.add(x_norm[rows, None], y_norm[None, columns])
                weight, first = self.symmetry.rotations.moments(overlap * precision, norms * (0.5 * precision))
                own = torch.add(x_own[rows, None], y_own[None, columns])
                block = weight * (precision * (own + self.symmetry.freedom) - precision**2 * norms)
                outer = torch.einsum("mka,qkb->abmq", left[rows], right[columns])
                block += ((outer + precision**2 * overlap) * first).sum((0, 1))
                total[rows, columns] += share * block
        return total.view(len(positions), -1, len(positions)).mean(1)

    def squared_distances(self, positions: torch.Tensor) -> torch.Tensor:
        """min over g of |x - g y|^2, [N, N]."""
        x = self.symmetry.shaped(positions)
        images = self._images(positions)
        reach = positions.new_zeros((len(positions), len(images)))
        for rows, columns, overlap in self._overlaps(x, images):
            reach[rows, columns] = self.symmetry.rotations.reach(overlap)
        norm = (x**2).sum((-2, -1))
        best = reach.view(len(positions), -1, len(positions)).amax(1)
        return (norm[:, None] + norm[None, :] - 2.0 * best).clamp_(min=0.0)


def _permuted(points: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Permuted copies [P N, n, s] of points [N, n, s]."""
    return points[:, table, :].transpose(0, 1).flatten(0, 1)


def _overlap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """sum_k x_k y_k^T for all pairs: [s, s, m, q]."""
    n, s = x.shape[1:]
    product = x.permute(2, 0, 1).reshape(-1, n) @ y.permute(1, 2, 0).reshape(n, -1)
    return product.view(s, len(x), s, len(y)).transpose(1, 2)


def _turned(first: torch.Tensor, pushes: torch.Tensor) -> torch.Tensor:
    """sum_q M_mq v_q, [m, n, s], for M [s, s, m, q] and v [q, n, s]."""
    s = len(first)
    rows = [torch.stack([first[a, b] @ pushes[:, :, b] for b in range(s)]).sum(0) for a in range(s)]
    return torch.stack(rows, dim=-1)
