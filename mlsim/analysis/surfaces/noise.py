"""Noise of a free-energy surface from the independent parts of its own data (runs, seeds, or halves of one run).

What: ``own`` is the RMSE of the surface against the truth that its parts imply; ``between_parts`` the RMSE between the
parts themselves (about twice ``own`` for two halves); ``thin`` finds bins that rest on next to nothing.

Equations. Parts i, j with shares s_i, s_j of the data and mean squared distance d_ij^2 (constant taken out) give

    noise^2 = < d_ij^2 / (1/s_i + 1/s_j) >_pairs          (halves: noise = d/2)

The logarithm of a part with few frames in a bin overstates the noise of all data, and the first-order expansion
-kT (p_i - p)/p understates it; to second order in the relative error the former is off by (S - 1) x and the latter by
-1 x the same term, so that with S parts

    noise^2 = linear^2 + (logarithmic^2 - linear^2) / S

Symbols: S -> ``len(splits)``; s -> ``split_shares``; p -> ``probability``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import polygamma

from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.shapes import Floats
from mlsim.units import kT

#: Relative error of a bin's population above which the bin is called thin (one over the root of four visits).
THIN = 0.5


def own(surface: FreeEnergySurface, mask: np.ndarray | None = None) -> float:
    """Noise of the whole surface, kJ/mol.

    Parameters
    ----------
    mask : [bins, ...] or None
        Bins to count; None: those below the cutoff.
    """
    mask = surface.populated() if mask is None else mask
    linear, logarithmic = (
        from_splits(_mean_squares(parts), surface.split_shares)
        for parts in (deviations(surface, surface.splits, mask), _split_energies(surface, mask))
    )
    return float(np.sqrt(max(0.0, linear + (logarithmic - linear) / len(surface.splits))))


def between_parts(surface: FreeEnergySurface, mask: np.ndarray | None = None) -> float:
    """RMSE between the free energies of the independent parts, kJ/mol (``mask`` as in ``own``)."""
    squares = _mean_squares(_split_energies(surface, surface.populated() if mask is None else mask))
    return float(np.sqrt(squares[np.triu_indices(len(squares), k=1)].mean()))


def deviations(surface: FreeEnergySurface, probability: Floats, mask: np.ndarray) -> Floats:
    """First-order deviations of F in the masked bins, -kT (p - p_all) / p_all, each row with mean zero.

    Parameters
    ----------
    probability : [K, bins, ...]
        Histograms of this surface's data (replicates, splits).
    mask : [bins, ...]
        Bins to return; one that no frame fell into has deviation 0.

    Returns
    -------
    [K, n]
        kJ/mol.
    """
    whole = surface.probability[mask]
    safe = np.where(whole > 0.0, whole, 1.0)
    change = np.where(whole > 0.0, (probability[:, mask] - whole) / safe, 0.0)
    values = -kT(surface.temperature_K) * change
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def log_deviations(surface: FreeEnergySurface, mask: np.ndarray) -> Floats:
    """Deviations of F in the masked bins as draws of its noise, [R, n], kJ/mol.

    Bootstrap deviations of first order carry how bins move together. Each bin's are scaled up where the variance by its
    own correlation is larger, and from first order to that of the logarithm of m independent visits,
    m psi_1(m) = m sum_k 1 / (m + k)^2.

    Parameters
    ----------
    mask : [bins, ...]
        Bins that were visited.
    """
    visits = np.maximum(surface.independent[mask], 1.0)
    unit = kT(surface.temperature_K)
    linear = -unit * (surface.replicates[:, mask] / surface.probability[mask] - 1.0)
    drawn = np.maximum(linear.std(axis=0), 1e-12)
    own = unit / np.sqrt(visits)
    return np.asarray(linear * np.maximum(1.0, own / drawn) * np.sqrt(visits * polygamma(1, visits)))


def thin(surface: FreeEnergySurface) -> np.ndarray:
    """Mask [bins, ...] of bins without four independent visits (relative bootstrap error of p above ``THIN``)."""
    spread = surface.replicates.std(axis=0, ddof=1)
    return np.asarray((spread > THIN * surface.probability) | (surface.probability <= 0.0))


def from_splits(distance_squared: Floats, shares: Floats) -> float:
    """Squared noise of the estimate from all data, from squared distances between its independent parts.

    If part i holds the share s_i of the data, then E d_ij^2 = (1/s_i + 1/s_j) noise^2; the pairs are averaged. For two
    halves noise = d/2.

    Parameters
    ----------
    distance_squared : [S, S]
        Squared distance between parts i and j, any unit.
    shares : [S]
        Share of the data in each part, sum 1.
    """
    i, j = np.triu_indices(len(shares), k=1)
    return float(np.mean(distance_squared[i, j] / (1.0 / shares[i] + 1.0 / shares[j])))


def _split_energies(surface: FreeEnergySurface, mask: np.ndarray) -> Floats:
    values = surface.filled(surface.splits, surface.split_shares)[:, mask]
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _mean_squares(parts: Floats) -> Floats:
    """Mean squared difference between all pairs of rows, [S, n] -> [S, S]."""
    return np.asarray(np.square(parts[:, None] - parts[None, :]).mean(axis=2))
