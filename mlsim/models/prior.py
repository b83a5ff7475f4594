"""What an energy-based model knows before it has seen data: it is bound, atoms do not overlap, bonds have lengths.

A network that was trained on samples says nothing about conformations that no sample comes near, and a simulation or
a Markov chain finds every hole in it. The prior closes the holes, in units of kT and of the reduced length:

    u_0(x) = kappa/2 sum_i |x_i - c|^2                 trap: keeps a cluster together
           + sum_i A max(0, |x_i - c| / R - 1)^3       cage: nothing was seen outside; A = 1000
           + sum_{i<j} A max(0, 1 - d_ij / rho)^3      core: finite at contact
           + sum_springs k/2 (d_ij - d_0)^2            bonds and angles, k = 1 / variance in the data

The core leaves out pairs that have a spring. Every term is C2, and invariant under rotation, reflection and
translation; under the exchange of equal atoms if the springs are (see :func:`equal_points` and :func:`springs_from`,
which averages over equal pairs).

Symbols: kappa ``trap``, c centre of the points, R ``cage``, d ``distance``, rho ``core``, k, d_0 ``springs``.

Reference: Wang et al. 2019, arXiv:1812.01736 (prior energies of coarse-grained force fields).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.models.pairs import pair_distances, pair_vectors
from mlsim.settings import Settings
from mlsim.shapes import Floats, Ints

#: A: height of the core at contact and of the cage at twice its radius, kT.
_HEIGHT = 1000.0


class Spring(Settings):
    """A harmonic distance between two points, in reduced units."""

    first: int = Field(ge=0)
    second: int = Field(ge=0)
    length: float = Field(gt=0.0)
    strength: float = Field(gt=0.0)


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
    """

    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        first: Tensor
        second: Tensor
        length: Tensor
        strength: Tensor

    def __init__(self, trap: float, cage: float, core: float, springs: Sequence[Spring]) -> None:
        super().__init__()
        self.trap, self.cage, self.core, self.height = trap, cage, core, _HEIGHT
        columns = {
            "first": torch.tensor([spring.first for spring in springs], dtype=torch.int64),
            "second": torch.tensor([spring.second for spring in springs], dtype=torch.int64),
            "length": torch.tensor([spring.length for spring in springs], dtype=torch.float64),
            "strength": torch.tensor([spring.strength for spring in springs], dtype=torch.float64),
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
    pooled: dict[frozenset[tuple[object, int]], list[Floats]] = {}
    kinds = []
    for i, j in pairs:
        kind = frozenset([(labels[i], int(labels[i] == labels[j])), (labels[j], 0)])
        kinds.append(kind)
        distance = np.linalg.norm(np.asarray(positions[:, i], float) - np.asarray(positions[:, j], float), axis=-1)
        pooled.setdefault(kind, []).append(distance)
    springs = []
    for (i, j), kind in zip(pairs, kinds, strict=True):
        values = np.concatenate(pooled[kind])
        spread = max(float(values.std()), floor)
        springs.append(
            Spring(first=int(i), second=int(j), length=float(values.mean()), strength=float(1.0 / spread**2))
        )
    return tuple(springs)
