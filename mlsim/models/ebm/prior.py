"""What an energy-based model knows before it has seen data: it is bound, atoms do not overlap, bonds have lengths.

A network that was trained on samples says nothing about conformations that no sample comes near, and a simulation or
a Markov chain finds every hole in it. The prior closes the holes, in units of kT and of the reduced length:

    u_0(x) = kappa/2 sum_i |x_i - c|^2                 trap: keeps a cluster together
           + sum_i A max(0, |x_i - c| / R - 1)^3       cage: nothing was seen outside; A = 1000
           + sum_{i<j} A max(0, 1 - d_ij / rho)^3      core: finite at contact
           + sum_springs k/2 (d_ij - d_0)^2            bonds and angles, k = 1 / variance in the data
           + sum_bounds (max(0, d_- - d_ij)^3 + max(0, d_ij - d_+)^3) / w^3
                                                       no distance leaves the range seen; w = 0.1

The core leaves out pairs that have a spring. Every term is C2, and invariant under rotation, reflection and
translation; under the exchange of equal atoms if springs and bounds are (see :func:`equal_points`,
:func:`springs_from` and :func:`bounds_from`, which pool equal pairs).

Why bounds and not the core and the cage alone: a core has one radius for all pairs, that of the closest, and a cage
bounds no distance at all. Under them atoms of a peptide may sit at half the distance that they keep in the data, and a
peptide bond may turn; every conformation that they admit has to be taught to the network instead.

Symbols: kappa ``trap``, c centre of the points, R ``cage``, d ``distance``, rho ``core``, k, d_0 ``springs``,
d_-, d_+ ``least``, ``most``.

Reference: Wang et al. 2019, arXiv:1812.01736 (prior energies of coarse-grained force fields).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.models.atom_pairs import pair_distances, pair_vectors
from mlsim.settings import Settings
from mlsim.shapes import Floats, Ints

#: A: height of the core at contact and of the cage at twice its radius, kT.
_HEIGHT = 1000.0
#: w: how far outside its bounds a distance costs 1 kT, reduced.
_WIDTH = 0.1


class Spring(Settings):
    """A harmonic distance between two points, in reduced units."""

    first: int = Field(ge=0)
    second: int = Field(ge=0)
    length: float = Field(gt=0.0)
    strength: float = Field(gt=0.0)


class Bounds(Settings):
    """The range of the distance between two points, in reduced units."""

    first: int = Field(ge=0)
    second: int = Field(ge=0)
    least: float = Field(gt=0.0)
    most: float = Field(gt=0.0)


class PriorEnergy(nn.Module):
    """u_0 of configurations.

    Parameters
    ----------
    trap : float
        kappa; 0 for none.
    cage : float
        R; 0 for none.
    core : float
        rho; 0 for none.
    springs : sequence of Spring
    bounds : sequence of Bounds
    """

    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        first: Tensor
        second: Tensor
        length: Tensor
        strength: Tensor
        bound_first: Tensor
        bound_second: Tensor
        least: Tensor
        most: Tensor

    def __init__(
        self, trap: float, cage: float, core: float, springs: Sequence[Spring], bounds: Sequence[Bounds] = ()
    ) -> None:
        super().__init__()
        self.trap, self.cage, self.core, self.height, self.width = trap, cage, core, _HEIGHT, _WIDTH
        columns = {
            "first": torch.tensor([spring.first for spring in springs], dtype=torch.int64),
            "second": torch.tensor([spring.second for spring in springs], dtype=torch.int64),
            "length": torch.tensor([spring.length for spring in springs], dtype=torch.float64),
            "strength": torch.tensor([spring.strength for spring in springs], dtype=torch.float64),
            "bound_first": torch.tensor([bound.first for bound in bounds], dtype=torch.int64),
            "bound_second": torch.tensor([bound.second for bound in bounds], dtype=torch.int64),
            "least": torch.tensor([bound.least for bound in bounds], dtype=torch.float64),
            "most": torch.tensor([bound.most for bound in bounds], dtype=torch.float64),
        }
        for name, values in columns.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, positions: Tensor, distance: Tensor) -> Tensor:
        """u_0 [B] of positions [B, N, s] whose pair distances (all i < j) are ``distance`` [B, P]."""
        offset = positions - positions.mean(1, keepdim=True)
        energy = 0.5 * self.trap * offset.square().sum(-1).sum(-1)
        if self.cage > 0.0:
            outside = ((offset.square().sum(-1) + 1e-12).sqrt() / self.cage - 1.0).clamp(min=0.0)
            energy = energy + self.height * (outside * outside * outside).sum(-1)
        if self.core > 0.0:
            energy = energy + self.wall(distance).sum(-1)
        if self.first.numel() > 0:
            held = pair_distances(pair_vectors(positions, self.first, self.second))
            stretch = held - self.length.to(held.dtype)
            energy = energy + 0.5 * (self.strength.to(held.dtype) * stretch.square()).sum(-1)
            if self.core > 0.0:
                energy = energy - self.wall(held).sum(-1)
        if self.bound_first.numel() > 0:
            bounded = pair_distances(pair_vectors(positions, self.bound_first, self.bound_second))
            over = (self.least.to(bounded.dtype) - bounded).clamp(min=0.0) + (
                bounded - self.most.to(bounded.dtype)
            ).clamp(min=0.0)
            energy = energy + (over * over * over).sum(-1) / self.width**3
        return energy

    def wall(self, distance: Tensor) -> Tensor:
        """Core energy of distances, same shape."""
        depth = (1.0 - distance / self.core).clamp(min=0.0)
        return self.height * depth * depth * depth


def equal_points(kinds: Sequence[object], springs: Sequence[Spring]) -> tuple[int, ...]:
    """A label per point; points with one label may be exchanged without changing the energy.

    Parameters
    ----------
    kinds : sequence of hashable, length N
        What the network tells points apart by, e.g. type and charge.
    springs : sequence of Spring
        With springs only points of one kind that are held to each other and to the same others are equal, like the
        hydrogens of one methyl group.
    """
    held: list[set[int]] = [{k} for k in range(len(kinds))]
    for spring in springs:
        held[spring.first].add(spring.second)
        held[spring.second].add(spring.first)
    keys = [(kind, frozenset(near) if springs else frozenset()) for kind, near in zip(kinds, held, strict=True)]
    known = list(dict.fromkeys(keys))
    return tuple(known.index(key) for key in keys)


def springs_from(positions: Floats, pairs: Ints, labels: Sequence[object], floor: float) -> tuple[Spring, ...]:
    """Springs whose lengths and strengths are mean and inverse variance in a sample.

    Parameters
    ----------
    positions : float [F, N, s]
        Sample, reduced units.
    pairs : int [P, 2]
        Which distances are held.
    labels : sequence of hashable, length N
        Equal labels: equal atoms. Pairs of equal atoms share one spring, so that the prior keeps their exchange.
    floor : float
        Smallest standard deviation of a distance; constrained bonds have none in the data.
    """
    springs = []
    for (i, j), values in zip(pairs, pooled(positions, pairs, labels), strict=True):
        spread = max(float(values.std()), floor)
        springs.append(
            Spring(first=int(i), second=int(j), length=float(values.mean()), strength=float(1.0 / spread**2))
        )
    return tuple(springs)


def bounds_from(positions: Floats, pairs: Ints, labels: Sequence[object]) -> tuple[Bounds, ...]:
    """Bounds at the smallest and the largest distance in a sample; arguments as for :func:`springs_from`."""
    return tuple(
        Bounds(first=int(i), second=int(j), least=float(values.min()), most=float(values.max()))
        for (i, j), values in zip(pairs, pooled(positions, pairs, labels), strict=True)
    )


def pooled(positions: Floats, pairs: Ints, labels: Sequence[object]) -> list[Floats]:
    """The distances of each of ``pairs`` in a sample, together with those of all pairs of equal atoms."""
    found: dict[frozenset[tuple[object, int]], list[Floats]] = {}
    kinds = []
    for i, j in pairs:
        kinds.append(frozenset([(labels[i], int(labels[i] == labels[j])), (labels[j], 0)]))
        distance = np.linalg.norm(np.asarray(positions[:, i], float) - np.asarray(positions[:, j], float), axis=-1)
        found.setdefault(kinds[-1], []).append(distance)
    together = {kind: np.concatenate(values) for kind, values in found.items()}
    return [together[kind] for kind in kinds]
