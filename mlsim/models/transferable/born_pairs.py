"""Pair integrals of generalized Born and their slopes for fixed positions, compiled by Numba.

While a network is trained the positions of a batch do not change, so that the Born radii and their dependence on
distances are numbers, not functions of the parameters. They are computed here once per batch; what depends on the
parameters (scaled radii, screening) is left to torch. With u = 1/U and v = 1/L of ``screening``,

    dH/dd = (1 + s^2/d^2) (u^2 - v^2) / 8 - ln(u/v) / (4 d^2)

(the terms through U and L cancel). Sums are float64.

Symbols: H ``integral``, d ``distance``, o ``offset``, s ``scaled``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_compiled: Any = njit(error_model="numpy", cache=True, nogil=True)


@_compiled
def _integral(d: float, o: float, s: float) -> tuple[float, float]:
    """H and dH/dd of one ordered pair."""
    upper = d + s
    if upper <= o:
        return 0.0, 0.0
    gap = abs(d - s)
    lower = max(o, gap)
    u, v, inverse = 1.0 / upper, 1.0 / lower, 1.0 / d
    log = math.log(u * lower)
    squares = u * u - v * v
    value = 0.5 * (v - u + 0.25 * (d - s * s * inverse) * squares + 0.5 * log * inverse)
    if o < s - d:
        value += 1.0 / o - v
    slope = 0.125 * (1.0 + s * s * inverse * inverse) * squares - 0.25 * log * inverse * inverse
    return value, slope


@_compiled
def _fill(distance: Any, first: Any, second: Any, offset: Any, scaled: Any, sums: Any, one: Any, other: Any) -> None:
    for p in range(distance.size):
        i, j, d = first[p], second[p], float(distance[p])
        value, slope = _integral(d, float(offset[i]), float(scaled[j]))
        sums[i] += value
        one[p] = slope
        value, slope = _integral(d, float(offset[j]), float(scaled[i]))
        sums[j] += value
        other[p] = slope


def pair_slopes(
    distance: NDArray[Any],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    offset_radius: NDArray[Any],
    scaled_radius: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]:
    """Sums of pair integrals and the slopes of their terms.

    Parameters
    ----------
    distance : float [Q], nm
    first, second : int64 [Q]
    offset_radius, scaled_radius : float [A], nm

    Returns
    -------
    sums : float64 [A], 1/nm
    one, other : float [Q], 1/nm^2
        Slopes of the term of ``second`` in the sum of ``first``, and of ``first`` in that of ``second``.
    """
    sums = np.zeros(len(offset_radius))
    one, other = np.empty_like(distance), np.empty_like(distance)
    _fill(distance, first, second, offset_radius, scaled_radius, sums, one, other)
    return sums, one, other
