"""Detection on a torus: a basin across the seam of a periodic map is one basin.

What: the image is continued by half a period on every side, the detector looks at the larger picture, and of what it
finds the boxes count whose centre lies in the cell. A basin on the seam is then found at both ends; of two boxes that
overlap when moved by a period the better one stays. Boxes may stick out of the cell by up to half a period.
"""

from __future__ import annotations

import numpy as np

from mlsim.repr.dynamic_head.detector import Detector
from mlsim.repr.dynamic_head.scenes.scene import Detections, overlap
from mlsim.shapes import Floats, require_shape

#: Moves by one period, in cells.
MOVES = tuple((float(right), float(down)) for down in (-1, 0, 1) for right in (-1, 0, 1))


def detect(detector: Detector, image: Floats, *, score: float = 0.45, limit: float = 0.3) -> Detections:
    """Boxes in a periodic image.

    Parameters
    ----------
    detector : Detector
    image : [H, W]
        One cell, in [0, 1].
    score : float
        Lowest score that is reported.
    limit : float
        Boxes of one class that overlap a better one by more (IoU) are dropped.

    Raises
    ------
    InputError
        If the image cannot be used.
    """
    checked = require_shape(image, (None, None), "image")
    rows, columns = checked.shape
    margin = (rows // 2, columns // 2)
    wide = np.pad(checked, [(margin[0], margin[0]), (margin[1], margin[1])], mode="wrap")
    found = detector.detect(wide, score=score, overlap=limit)
    boxes = found.boxes - np.array([margin[1], margin[0]] * 2)
    centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    # A little more than the cell: a centre just outside here may be just outside on the other side as well.
    inside = ((centre > -1.0) & (centre < np.array([columns, rows]) + 1.0)).all(axis=1)
    chosen = found.select(inside)
    boxes, kept = boxes[inside], np.zeros(int(inside.sum()), dtype=bool)
    for number, box in enumerate(boxes):
        rivals = boxes[kept & (chosen.labels == chosen.labels[number])]
        kept[number] = not len(rivals) or periodic_overlap(box[None], rivals, (rows, columns)).max() <= limit
    boxes = wrapped(boxes[kept], (rows, columns))
    return Detections(boxes, chosen.scores[kept], chosen.labels[kept], found.classes)


def periodic_overlap(first: Floats, second: Floats, size: tuple[float, float]) -> Floats:
    """Largest IoU [n, m] of boxes [n, 4] and [m, 4] over moves by a period; ``size`` is (rows, columns)."""
    cell = np.array([size[1], size[0]] * 2)
    moved = [overlap(first, second + cell * np.array(move * 2)) for move in MOVES]
    best: Floats = np.max(moved, axis=0)
    return best


def wrapped(boxes: Floats, size: tuple[float, float]) -> Floats:
    """Boxes [n, 4] moved by periods so that their centres lie in the cell."""
    cell = np.array([size[1], size[0]])
    shift = np.floor(0.5 * (boxes[:, :2] + boxes[:, 2:]) / cell) * cell
    moved: Floats = boxes - np.tile(shift, 2)
    return moved
