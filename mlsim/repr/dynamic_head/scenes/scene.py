"""A scene: an image with its exact boxes; and what a detector gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlsim.shapes import Floats, Ints


@dataclass(frozen=True)
class Scene:
    """An image and the truth about it.

    Attributes
    ----------
    image : float32 [H, W]
        In [0, 1].
    boxes : [n, 4]
        (x0, y0, x1, y1), pixels; pixel i covers [i, i + 1].
    labels : int [n]
        Class of each box.
    """

    image: Floats
    boxes: Floats
    labels: Ints


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes
    ----------
    boxes : float64 [n, 4]
        (x0, y0, x1, y1), pixels.
    scores : float64 [n]
        In [0, 1].
    labels : int [n]
        Index into ``classes``.
    classes : tuple of str
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    classes: tuple[str, ...]

    def select(self, keep: np.ndarray) -> Detections:
        """The detections of a mask or of indices."""
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.classes)


#: A maker of scenes: every call with a generator gives another scene.
Maker = Callable[[np.random.Generator], Scene]


def overlap(first: Floats, second: Floats) -> Floats:
    """IoU [n, m] of boxes [n, 4] and [m, 4]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    sizes = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (first, second)]
    ratio: Floats = both / np.maximum(sizes[0][:, None] + sizes[1][None] - both, 1e-12)
    return ratio


def padded(boxes: list[tuple[float, ...]]) -> Floats:
    """Boxes [n, 4] from a list that may be empty."""
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
