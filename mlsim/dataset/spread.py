"""Choosing a few conformations that cover the space of many.

Farthest-point traversal: start anywhere, then always take the point that is farthest from all taken so far,

    i_1 random,   i_k = argmax_i min_{j < k} |z_i - z_{i_j}|

Why not a random choice: a trajectory visits a basin ten thousand times and a barrier ten times, and a label costs the
same everywhere. The first k points cover the visited region to within twice the best possible radius (Gonzalez 1985),
in any dimension and without bins, and a longer choice begins with the shorter one.

Symbols: z ``points``, i ``chosen``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.seeds import numpy_stream
from mlsim.shapes import Floats, require_shape


def farthest(points: Floats, count: int, seed: int) -> NDArray[np.int64]:
    """Indices of ``count`` points that cover all of them, in the order in which they were taken.

    Parameters
    ----------
    points : float [F, D]
    count : int
    seed : int
        Root seed of the first point.

    Raises
    ------
    InputError
        If there are fewer points than asked for.
    """
    z = np.asarray(require_shape(points, (None, None), "points to choose from"), dtype=np.float64)
    if not 1 <= count <= len(z):
        raise InputError(f"choice: expected between 1 and {len(z)} (the number of frames), got {count}")
    chosen = np.empty(count, dtype=np.int64)
    chosen[0] = numpy_stream(seed, "dataset.spread").integers(len(z))
    nearest = np.full(len(z), np.inf)
    z = z - z.mean(axis=0)
    squares = (z**2).sum(axis=1)
    for k in range(1, count):
        last = chosen[k - 1]
        nearest = np.minimum(nearest, np.maximum(squares + squares[last] - 2 * (z @ z[last]), 0.0))
        nearest[chosen[:k]] = -1.0
        chosen[k] = int(nearest.argmax())
    return chosen


def tour(points: Floats) -> NDArray[np.int64]:
    """All points in an order with short steps: always on to the nearest one left, from the first.

    Parameters
    ----------
    points : float [F, D]
    """
    z = np.asarray(points, dtype=np.float64)
    order, left = [0], set(range(1, len(z)))
    while left:
        rest = np.fromiter(sorted(left), dtype=np.int64)
        following = int(rest[((z[rest] - z[order[-1]]) ** 2).sum(axis=1).argmin()])
        order.append(following)
        left.remove(following)
    return np.array(order, dtype=np.int64)


def on_circle(angles: Floats) -> Floats:
    """Angles [F, C] (rad) as points [F, 2C] whose distance knows that -pi and pi are one."""
    both: Floats = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return both
