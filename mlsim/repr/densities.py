"""Ensembles as square images in [0, 1]: densities over two variables, Ramachandran plots, windows of a trajectory.

    p      = histogram of (x, y), weighted, smoothed by a Gaussian of ``smooth`` bins
    pixel  = max(0, 1 + ln(p / max p) / D)                  D -> ``depth_kT``

A pixel is a free energy turned over: 1 at the deepest minimum, 0 at D kT above it and where nothing was seen. Rows are
x, columns y, both from low to high. Angles are periodic: the histogram and the smoothing wrap around.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mlsim.errors import InputError
from mlsim.shapes import Floats, require_shape


def density2d(
    x: Floats,
    y: Floats,
    *,
    bins: int = 24,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    weights: Floats | None = None,
    smooth: float = 1.0,
    depth_kT: float = 6.0,
) -> NDArray[np.float32]:
    """Density of points in the plane.

    Parameters
    ----------
    x, y : [F]
    bins : int
        Side of the image.
    x_range, y_range : (low, high), optional
        From the data if not given; points outside are left out.
    weights : [F], optional
    smooth : float
        Width of the Gaussian, bins.
    depth_kT : float
        Free energy that becomes 0.

    Returns
    -------
    float32 [bins, bins] in [0, 1]

    Raises
    ------
    InputError
        If the lengths differ, or no point lies in the ranges.
    """
    return _picture(x, y, bins, (x_range, y_range), weights, smooth, depth_kT, "constant")


def ramachandran(
    phi: Floats, psi: Floats, *, bins: int = 24, weights: Floats | None = None, smooth: float = 1.0
) -> NDArray[np.float32]:
    """Density over two angles (rad, any period), float32 [bins, bins]; rows phi, columns psi, from -pi to pi."""
    full = (-np.pi, np.pi)
    angles = [np.mod(np.asarray(a, dtype=np.float64) + np.pi, 2.0 * np.pi) - np.pi for a in (phi, psi)]
    return _picture(angles[0], angles[1], bins, (full, full), weights, smooth, 6.0, "wrap")


def ramachandran_windows(
    phi: Floats, psi: Floats, *, window: int, step: int, bins: int = 24
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ramachandran images of windows of consecutive frames.

    Parameters
    ----------
    phi, psi : [F], rad
    window, step : int
        Frames per window and between the starts of two windows.
    bins : int

    Returns
    -------
    images : float32 [n, bins, bins]
    starts : int64 [n]
        First frame of each window.
    """
    frames = len(require_shape(phi, (None,), "phi (rad)"))
    if not 1 <= window <= frames or step < 1:
        raise InputError(f"windows: expected a window of 1 to {frames} frames and a step >= 1, got {window}, {step}")
    starts = np.arange(0, frames - window + 1, step)
    images = [ramachandran(phi[s : s + window], psi[s : s + window], bins=bins) for s in starts]
    return np.stack(images), starts.astype(np.int64)


def _picture(
    x: Floats,
    y: Floats,
    bins: int,
    ranges: tuple[tuple[float, float] | None, tuple[float, float] | None],
    weights: Floats | None,
    smooth: float,
    depth_kT: float,
    mode: str,
) -> NDArray[np.float32]:
    first = require_shape(x, (None,), "x")
    second = require_shape(y, (len(first),), "y")
    given = None if weights is None else require_shape(weights, (len(first),), "weights")
    if len(first) == 0 or bins < 2 or depth_kT <= 0.0:
        raise InputError(f"density: expected points, bins >= 2 and a depth > 0, got {len(first)}, {bins}, {depth_kT}")
    spans = [
        limits if limits is not None else (float(v.min()), float(v.max()) + 1e-9)
        for limits, v in zip(ranges, (first, second), strict=True)
    ]
    counts, _, _ = np.histogram2d(first, second, bins=bins, range=spans, weights=given)
    if not counts.sum() > 0.0:
        raise InputError(f"density: no point with weight inside {spans[0]} x {spans[1]}; widen the ranges")
    if smooth > 0.0:
        counts = gaussian_filter(counts, smooth, mode=mode)
    with np.errstate(divide="ignore"):
        free = 1.0 + np.log(np.maximum(counts, 0.0) / counts.max()) / depth_kT
    return np.maximum(free, 0.0).astype(np.float32)
