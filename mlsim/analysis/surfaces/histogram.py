"""Weighted histograms on uniform bins, and what an empty bin counts for.

What: edges, bin indices and block-wise tables behind ``surface.estimate``; pure array functions.

Empty bins: where a number is needed, a bin that no frame fell into gets the population of one typical sample,
1 / n_effective, but is never lower than ``cutoff`` above the histogram's own minimum,

    F_empty = max( kT ln n_effective,  min_b F_b + cutoff )     (kJ/mol)

so that a short run cannot hide a basin that it missed.

Symbols: n_effective -> ``n_effective``; kT -> ``units.kT(temperature_K)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlsim.analysis import observables
from mlsim.shapes import Floats, Ints
from mlsim.units import KJ_PER_KCAL, kT

#: Bins counted as the populated region in every comparison: F below this, kcal/mol.
CUTOFF_KCAL_MOL = 3.0


def filled_free_energy(
    probability: Floats, n_effective: float | Floats, temperature_K: float, cutoff_kcal_mol: float = CUTOFF_KCAL_MOL
) -> Floats:
    """Free energies -kT ln p with empty bins filled by the one-sample rule of this module.

    Parameters
    ----------
    probability : [K, bins, ...]
        Histograms.
    n_effective : float or [K]
        Effective frames behind each.
    temperature_K : float
        Temperature, K.
    cutoff_kcal_mol : float
        Least free energy of an empty bin above the histogram's minimum, kcal/mol.

    Returns
    -------
    [K, bins, ...]
        kJ/mol, normalised by the histogram's own total (no offset taken out).
    """
    flat = probability.reshape(len(probability), -1)
    values = -kT(temperature_K) * np.log(np.where(flat > 0.0, flat, np.nan))
    one_sample = kT(temperature_K) * np.log(np.broadcast_to(n_effective, (len(flat),)))
    least = np.nanmin(values, axis=1) + cutoff_kcal_mol * KJ_PER_KCAL
    filled = np.where(flat > 0.0, values, np.maximum(one_sample, least)[:, None])
    return filled.reshape(probability.shape)


def uniform_edges(cv: Floats, cv_names: Sequence[str], bins: int) -> tuple[Floats, ...]:
    """Bin edges: the full circle for angles, one bin for each integer, the (slightly widened) range for lengths.

    Parameters
    ----------
    cv : [F, C]
        Collective variables, rad or nm.
    """
    edges = []
    for column, name in zip(cv.T, cv_names, strict=True):
        variable = observables.parse(name)
        if variable.discrete:
            low, high = np.floor(column.min()) - 0.5, np.ceil(column.max()) + 0.5
            edges.append(np.linspace(low, high, round(high - low) + 1))
            continue
        if variable.periodic:
            low, high = -np.pi, np.pi
        else:
            margin = 1e-3 * max(float(np.ptp(column)), 1e-3)
            low, high = float(column.min()) - margin, float(column.max()) + margin
        edges.append(np.linspace(low, high, bins + 1))
    return tuple(edges)


def bin_index(cv: Floats, edges: tuple[Floats, ...], cv_names: Sequence[str]) -> Ints:
    """Flat bin index of every frame [F]; -1 outside the edges of a non-periodic CV."""
    flat = np.zeros(len(cv), dtype=np.int64)
    outside = np.zeros(len(cv), dtype=bool)
    for column, edge, name in zip(cv.T, edges, cv_names, strict=True):
        bins = len(edge) - 1
        if observables.parse(name).periodic:
            column = np.mod(column - edge[0], 2.0 * np.pi) + edge[0]
        position = np.floor((column - edge[0]) / (edge[-1] - edge[0]) * bins).astype(np.int64)
        outside |= (position < 0) | (position > bins) | ((position == bins) & (column > edge[-1]))
        flat = flat * bins + np.clip(position, 0, bins - 1)
    return np.where(outside, -1, flat)


def block_table(labels: Ints, n_labels: int, bins_of: Ints, size: int, weights: Floats) -> Floats:
    """Weight of each block in each bin, [n_labels, size].

    Parameters
    ----------
    labels : [F]
        Block of each frame.
    bins_of : [F]
        Flat bin of each frame, 0 .. size-1.
    weights : [F]
        Weight of each frame.
    """
    flat = np.bincount(labels * size + bins_of, weights=weights, minlength=n_labels * size)
    return np.asarray(flat.reshape(n_labels, size), dtype=np.float64)
