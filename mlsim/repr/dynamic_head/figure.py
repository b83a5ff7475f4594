"""A picture of an image with the boxes found in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlsim.files import replacing
from mlsim.repr.dynamic_head.scenes.scene import Detections
from mlsim.shapes import Floats

_COLOURS = ("tab:red", "tab:orange", "tab:cyan", "tab:pink", "tab:green", "white")


def draw(
    image: Floats,
    found: Detections,
    path: Path,
    *,
    window: tuple[float, float, float, float] | None = None,
    names: tuple[str, str] = ("", ""),
    title: str = "",
) -> None:
    """Write ``path`` (PNG).

    Parameters
    ----------
    image : [H, W]
    found : Detections
        Boxes in pixels of ``image``.
    window : (first column, last column, first row, last row) or None
        Axis values at the outer edges of the image, drawn growing upwards. None: pixels, drawn downwards.
    names : pair of str
        Names of the horizontal and the vertical axis.
    title : str

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows, columns = image.shape
    left, right, first, last = window or (0.0, float(columns), 0.0, float(rows))
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(image, cmap="viridis", extent=(left, right, last, first), aspect="auto", vmin=0.0, vmax=1.0)
    axes.set(
        xlabel=names[0],
        ylabel=names[1],
        title=title,
        xlim=(left, right),
        ylim=(last, first) if window is None else (first, last),
    )
    scale = np.array([(right - left) / columns, (last - first) / rows])
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        colour = _COLOURS[int(label) % len(_COLOURS)]
        for move in _copies(box, rows, columns) if window else [np.zeros(2)]:
            corner = np.array([left, first]) + (box[:2] + move) * scale
            size = (box[2:] - box[:2]) * scale
            axes.add_patch(Rectangle(tuple(corner), *size, fill=False, edgecolor=colour, linewidth=1.6))
            anchor = (corner[0], corner[1] + (size[1] if window else 0.0))
            text = f"{found.classes[int(label)]} {score:.2f}"
            axes.text(*anchor, text, color=colour, fontsize=7, va="bottom", clip_on=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def _copies(box: Floats, rows: int, columns: int) -> list[Floats]:
    """Moves under which a box is seen: itself, and the images of one that sticks out of a periodic cell."""
    across = [0.0] + [columns] * bool(box[0] < 0) + [-columns] * bool(box[2] > columns)
    down = [0.0] + [rows] * bool(box[1] < 0) + [-rows] * bool(box[3] > rows)
    return [np.array([right, below]) for right in across for below in down]
