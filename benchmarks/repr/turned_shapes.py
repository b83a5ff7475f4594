"""Noisy images of turned and stretched shapes: a quick test for detectors.

What: up to 5 ellipses, rectangles and triangles of 8 to 40 pixels, at any angle, with sides in a ratio of up to 3,
brighter or darker than an uneven background with noise. The boxes are exact: they come from the outline.
Why turned and stretched: shapes that fill their boxes leave deformable convolutions nothing to adapt to.
"""

from __future__ import annotations

import numpy as np

from mlsim.repr.dynamic_head.scenes.scene import Scene, overlap, padded
from mlsim.shapes import Floats

CLASSES = ("ellipse", "rectangle", "triangle")
#: Two shapes overlap by at most this IoU.
_CROWDING = 0.1


def shapes(
    generator: np.random.Generator, size: int = 64, contrast: tuple[float, float] = (0.12, 0.4), noise: float = 0.08
) -> Scene:
    """One image [size, size] with its shapes; labels index ``CLASSES``.

    Parameters
    ----------
    generator : numpy.random.Generator
    size : int
        Side, pixels.
    contrast : (low, high)
        Range of the difference in grey between a shape and the background.
    noise : float
        Width of the Gaussian noise of every pixel.
    """
    y, x = np.mgrid[:size, :size] + 0.5
    slope = generator.normal(0.0, 0.15, 2) / size
    image = 0.5 + slope[0] * (x - size / 2) + slope[1] * (y - size / 2)
    boxes: list[tuple[float, ...]] = []
    labels: list[int] = []
    for _ in range(int(generator.integers(2, 6))):
        label = int(generator.integers(len(CLASSES)))
        longer = 0.5 * np.exp(generator.uniform(np.log(8.0), np.log(40.0)))
        shorter = max(2.5, longer * generator.uniform(0.33, 1.0))
        angle = generator.uniform(0.0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        half = _half_extent(label, longer, shorter, turn)
        low, high = half[0], half[1]
        if (high - low).max() > size - 2.0:
            continue
        centre = generator.uniform(1.0 - low, size - 1.0 - high)
        box = (*(centre + low), *(centre + high))
        if boxes and overlap(padded([box]), padded(boxes)).max() > _CROWDING:
            continue
        local = np.stack([x - centre[0], y - centre[1]], axis=-1) @ turn  # coordinates along the axes of the shape
        inside = _coverage(label, local, longer, shorter)
        image = image + generator.uniform(*contrast) * generator.choice([-1.0, 1.0]) * inside
        boxes.append(tuple(float(edge) for edge in box))
        labels.append(label)
    image = image + generator.normal(0.0, noise, image.shape)
    return Scene(np.clip(image, 0.0, 1.0).astype(np.float32), padded(boxes), np.asarray(labels, dtype=np.int64))


def _corners(label: int, longer: float, shorter: float) -> Floats:
    """Corners of a rectangle or triangle in its own axes [n, 2]."""
    if CLASSES[label] == "rectangle":
        return np.array([[-longer, -shorter], [longer, -shorter], [longer, shorter], [-longer, shorter]])
    return np.array([[-longer, -shorter], [longer, -shorter], [0.0, shorter]])


def _half_extent(label: int, longer: float, shorter: float, turn: Floats) -> Floats:
    """Lower and upper corner of the box around a shape at the origin [2, 2]."""
    if CLASSES[label] == "ellipse":
        reach = np.sqrt((turn[:, 0] * longer) ** 2 + (turn[:, 1] * shorter) ** 2)
        return np.stack([-reach, reach])
    corners = _corners(label, longer, shorter) @ turn.T
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _coverage(label: int, local: Floats, longer: float, shorter: float) -> Floats:
    """Share of each pixel inside the shape, to first order in the distance from the outline."""
    if CLASSES[label] == "ellipse":
        scaled = local / np.array([longer, shorter])
        radius = np.sqrt((scaled**2).sum(axis=-1)) + 1e-9
        steepness = np.sqrt(((scaled / np.array([longer, shorter])) ** 2).sum(axis=-1)) / radius + 1e-9
        distance = (1.0 - radius) / steepness
    else:
        corners = _corners(label, longer, shorter)
        edges = np.roll(corners, -1, axis=0) - corners
        normals = np.stack([-edges[:, 1], edges[:, 0]], axis=-1) / np.linalg.norm(edges, axis=-1, keepdims=True)
        distance = np.min([(local - corner) @ normal for corner, normal in zip(corners, normals, strict=True)], axis=0)
    return np.clip(distance + 0.5, 0.0, 1.0)
