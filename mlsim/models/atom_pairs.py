"""All unordered pairs of a small molecule, in shapes that depend on its size only.

A peptide has tens of atoms, so the list of all pairs i < j is short, never changes and needs no neighbour search;
a cutoff acts through a smooth envelope that is zero beyond it. Each unordered pair is stored once: whatever depends
on the distance alone (the costly part of a continuous-filter network) is evaluated once and serves both directions.

    d_ij = sqrt(|r_i - r_j|^2 + tiny^2)        tiny = 1e-6 nm keeps the gradient finite for coinciding atoms

Symbols: i ``first``, j ``second``, d ``distance``; P = N (N - 1) / 2 pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def half_pairs(n_atoms: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices (first, second), int64 [P] each, of all pairs first < second in lexical order."""
    indices = torch.triu_indices(n_atoms, n_atoms, 1, device=device)
    return indices[0], indices[1]


def pair_vectors(positions: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Vectors r_first - r_second, [B, P, 3], of positions [B, N, 3] (nm)."""
    return positions.index_select(1, first) - positions.index_select(1, second)


def pair_distances(vectors: Tensor) -> Tensor:
    """Lengths [B, P] of vectors [B, P, 3], never zero (nm)."""
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def sum_over_neighbours(values: Tensor, weights: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Continuous-filter sum ``m_i = sum_{j != i} values_j * weights_ij`` with symmetric weights.

    Parameters
    ----------
    values : Tensor [B or 1, N, F]
    weights : Tensor [B, P, F]
        One row per unordered pair.
    first, second : int64 Tensor [P]

    Returns
    -------
    Tensor [B, N, F]
    """
    total = torch.zeros([weights.size(0), values.size(1), values.size(2)], dtype=weights.dtype, device=weights.device)
    total = total.index_add(1, first, values.index_select(1, second) * weights)
    return total.index_add(1, second, values.index_select(1, first) * weights)
