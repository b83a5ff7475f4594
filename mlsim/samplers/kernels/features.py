"""Invariant features of a configuration with Jacobian and Laplacian, for pull-back kernels.

    SortedDistances    pair distances, sorted within each pair of species: complete up to rare coincidences, with kinks
                       where two distances cross (the Laplacian is that of the distances, kinks ignored)
    SmoothedDistances  b_c = sum_pairs exp(-(r - mu_c)^2 / 2 w^2) per pair of species: smooth, not complete

With r = |x_a - x_b|:  grad_a r = (x_a - x_b)/r,  Lap r = 2 (s - 1)/r,  Lap f(r) = 2 [f'' + (s - 1) f'/r].

Symbols: r ``lengths`` [N, pairs]; J ``jacobian`` [N, m, d]; Lap ``laplacian`` [N, m]; mu ``centres``; w ``width``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from mlsim.samplers.groups.symmetry import Symmetry

_TINY = 1e-12


class Described(NamedTuple):
    """Features [N, m], their Jacobian [N, m, d] and Laplacian [N, m]."""

    values: torch.Tensor
    jacobian: torch.Tensor
    laplacian: torch.Tensor


class Features(Protocol):
    """Invariant features of configurations of one symmetry."""

    @property
    def symmetry(self) -> Symmetry:
        """The group the features are invariant under (O(s), within-species permutations, translations)."""

    def describe(self, positions: torch.Tensor) -> Described:
        """Features of ``positions`` [N, d]."""


class _Pairs(NamedTuple):
    lengths: torch.Tensor
    directions: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


def _pairs(symmetry: Symmetry, positions: torch.Tensor) -> _Pairs:
    first, second = torch.triu_indices(symmetry.points, symmetry.points, 1)
    points = symmetry.shaped(positions)
    difference = points[:, first] - points[:, second]
    lengths = difference.norm(dim=-1).clamp(min=_TINY)
    return _Pairs(lengths, difference / lengths[..., None], first, second)


@functools.lru_cache(maxsize=16)
def _pair_kinds(species: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Indices of the pairs of each unordered pair of species."""
    first, second = torch.triu_indices(len(species), len(species), 1).tolist()
    kinds: dict[tuple[int, int], list[int]] = {}
    for index, (i, j) in enumerate(zip(first, second, strict=True)):
        low, high = sorted((species[i], species[j]))
        kinds.setdefault((low, high), []).append(index)
    return tuple(torch.tensor(kinds[key]) for key in sorted(kinds))


def _scatter(symmetry: Symmetry, pairs: _Pairs, gains: torch.Tensor) -> torch.Tensor:
    """sum_pairs gains [N, m, pairs] * grad r_pair, as [N, m, d]."""
    count, _, number = gains.shape
    sign = gains.new_zeros((number, symmetry.points))
    sign.scatter_(1, pairs.first[:, None], 1.0).scatter_(1, pairs.second[:, None], -1.0)
    gradients = (sign[None, :, :, None] * pairs.directions[:, :, None, :]).reshape(count, number, symmetry.dimension)
    return gains @ gradients


@dataclass(frozen=True)
class SortedDistances:
    """Pair distances sorted within each pair of species."""

    symmetry: Symmetry

    def describe(self, positions: torch.Tensor) -> Described:
        """Features of ``positions`` [N, d]; m = n (n - 1) / 2."""
        pairs = _pairs(self.symmetry, positions)
        columns = []
        for kind in _pair_kinds(self.symmetry.species):
            columns.append(kind[pairs.lengths[:, kind].argsort(dim=1)])
        order = torch.cat(columns, dim=1)
        values = pairs.lengths.gather(1, order)
        index = order[..., None].expand(-1, -1, self.symmetry.space)
        push = pairs.directions.gather(1, index)
        count, m = order.shape
        jacobian = push.new_zeros((count, m, self.symmetry.points, self.symmetry.space))
        for ends, sign in ((pairs.first, 1.0), (pairs.second, -1.0)):
            where = ends[order][..., None, None].expand(-1, -1, 1, self.symmetry.space)
            jacobian.scatter_(2, where, sign * push[:, :, None])
        laplacian = 2.0 * (self.symmetry.space - 1) / values
        return Described(values, jacobian.view(count, m, self.symmetry.dimension), laplacian)


@dataclass(frozen=True)
class SmoothedDistances:
    """Gaussian-smoothed histogram of the pair distances, per pair of species.

    Attributes
    ----------
    symmetry : Symmetry
    centres : tuple of float
        mu, in the units of the positions.
    width : float
        w, same units.
    """

    symmetry: Symmetry
    centres: tuple[float, ...]
    width: float

    def describe(self, positions: torch.Tensor) -> Described:
        """Features of ``positions`` [N, d]; m = number of centres x number of pair kinds."""
        pairs = _pairs(self.symmetry, positions)
        centres = torch.tensor(self.centres, dtype=positions.dtype)
        offset = (pairs.lengths[:, None, :] - centres[None, :, None]) / self.width
        bump = torch.exp(-0.5 * offset**2)
        slope = -bump * offset / self.width
        bend = bump * (offset**2 - 1.0) / self.width**2
        lap = 2.0 * (bend + (self.symmetry.space - 1) * slope / pairs.lengths[:, None, :])
        values, gains, laps = [], [], []
        for kind in _pair_kinds(self.symmetry.species):
            mask = torch.zeros(pairs.lengths.shape[1], dtype=positions.dtype)
            mask[kind] = 1.0
            values.append((bump * mask).sum(-1))
            gains.append(slope * mask)
            laps.append((lap * mask).sum(-1))
        jacobian = _scatter(self.symmetry, pairs, torch.cat(gains, dim=1))
        return Described(torch.cat(values, dim=1), jacobian, torch.cat(laps, dim=1))
