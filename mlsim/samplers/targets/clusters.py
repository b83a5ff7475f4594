"""Clusters of identical points: DW-4 and the Lennard-Jones clusters, in the conventions that published *data* obey.

    DW-4   E = sum_{i<j} 0.9 t^4 - 4 t^2,  t = r_ij - 4                      4 points in the plane
    LJ-n   E = 2 sum_{i<j} (r^-12 - 2 r^-6) + 1/2 sum_i |x_i - c|^2          n points in space, c the centre of mass

at kT = 1. Papers print these with other factors; the virial <(x - c) . grad E> = (n - 1) s on published and own
samples decides (each DW-4 pair once, each LJ pair twice). DW-4 has five minima, listed in ``DW4_MINIMA`` with the
number of long edges (r > 4) of each.

Symbols: r ``lengths``; t ``offset``; c centre of mass; log p = -E.
References: Koehler, Klein & Noe 2020, arXiv:2006.02425 (potentials); Akhound-Sadegh et al. 2024, arXiv:2402.06121
(the convention of the LJ factor).
"""

from __future__ import annotations

import torch

from mlsim.errors import InputError
from mlsim.samplers.groups.symmetry import orthogonal, permutations, translations
from mlsim.samplers.targets.target import Target, normal_start

#: (energy, long edges) of the five minima of DW-4; quenching 400 random starts finds these and no other.
DW4_MINIMA = ((-25.792, 4), (-25.312, 2), (-24.352, 4), (-23.465, 1), (-21.066, 3))
#: Length that separates short and long edges of DW-4.
DW4_LONG = 4.0
#: Ground state energy of LJ-13 (icosahedron in the trap).
LJ13_GROUND = -83.0896


def pair_distances(positions: torch.Tensor, points: int) -> torch.Tensor:
    """All pair distances [..., n (n - 1) / 2] of configurations [..., n s]."""
    x = positions.reshape(*positions.shape[:-1], points, -1)
    first, second = torch.triu_indices(points, points, 1)
    return (x[..., first, :] - x[..., second, :]).norm(dim=-1)


def dw4_log_density(positions: torch.Tensor) -> torch.Tensor:
    """-E of DW-4, [..., 8] -> [...]."""
    squared = (pair_distances(positions, 4) - DW4_LONG) ** 2
    return -(squared * (0.9 * squared - 4.0)).sum(-1)


def long_edges(positions: torch.Tensor) -> torch.Tensor:
    """Number of DW-4 pair distances above 4, [..., 8] -> int64 [...]."""
    return (pair_distances(positions, 4) > DW4_LONG).sum(-1)


def lennard_jones_log_density(positions: torch.Tensor, points: int) -> torch.Tensor:
    """-E of an LJ cluster, [..., 3 n] -> [...]."""
    x = positions.reshape(*positions.shape[:-1], points, 3)
    first, second = torch.triu_indices(points, points, 1)
    sixth = ((x[..., first, :] - x[..., second, :]) ** 2).sum(-1) ** -3
    pairs = (sixth * (sixth - 2.0)).sum(-1)
    trap = ((x - x.mean(-2, keepdim=True)) ** 2).sum((-2, -1))
    return -(2.0 * pairs + 0.5 * trap)


def dw4() -> Target:
    """The double-well cluster of four points in the plane."""
    symmetry = orthogonal(2, points=4) * permutations((0,) * 4, space=2) * translations(2, points=4)
    return Target("dw4", dw4_log_density, symmetry, normal_start(symmetry, 2.5), None, True, 1.0)


def lennard_jones(points: int) -> Target:
    """A Lennard-Jones cluster in a harmonic trap; starts spread like the cube root of the volume."""
    if points < 2:
        raise InputError(f"LJ cluster: expected at least 2 points, got {points}")
    symmetry = orthogonal(3, points=points) * permutations((0,) * points, space=3) * translations(3, points=points)
    spread = (points / 13.0) ** (1.0 / 3.0)
    return Target(
        f"lj{points}",
        lambda positions: lennard_jones_log_density(positions, points),
        symmetry,
        normal_start(symmetry, spread),
        None,
        True,
        0.3,
    )
