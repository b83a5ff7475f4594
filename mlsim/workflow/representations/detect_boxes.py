"""``detect`` in Python: boxes in a free-energy surface or in an image, by a small trained detector.

    detect("runs/fes", "maps")     -> picture, detections

A surface of ``mlsim fes`` over two collective variables is looked at for basins, periodic ones across the seam, and
boxes come out in the units of the collective variables; an image or a ``.npy`` array (values in [0, 1]) in pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.errors import InputError, MissingError
from mlsim.files import write_text
from mlsim.repr.dynamic_head import periodic
from mlsim.repr.dynamic_head.detector import Detector
from mlsim.repr.dynamic_head.figure import draw
from mlsim.repr.dynamic_head.scenes.landscape import image_of
from mlsim.repr.dynamic_head.scenes.scene import Detections
from mlsim.repr.image_file import read_image, read_values
from mlsim.units import kT


@dataclass(frozen=True)
class Axis:
    """Name, unit and values at the first and last edge of one axis of a surface."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class Picture:
    """What is looked at: ``image`` [H, W] in [0, 1], its axes (horizontal, vertical; none for a plain image)."""

    image: Any
    axes: tuple[Axis, ...] = ()
    periodic: bool = False


def detect(source: str | Path, detector: str = "maps", score: float = 0.45) -> tuple[Picture, Detections]:
    """What a detector finds.

    Parameters
    ----------
    source : str or Path
        Surface (``.npz``, or the directory with ``surface.npz``), image, or ``.npy`` array.
    detector : str
        Name of a shipped detector, or its directory.
    score : float
        Lowest score that is reported.

    Raises
    ------
    MissingError, InputError
        If there is nothing, or it cannot be used.
    """
    picture = _read(Path(source))
    model = Detector.from_pretrained(detector)
    if picture.periodic:
        found = periodic.detect(model, picture.image, score=score)
    else:
        found = model.detect(picture.image, score=score)
    if picture.axes and "basin" in found.classes:
        found = found.select(found.labels == found.classes.index("basin"))
    return picture, found


def require_output(output: Path | None) -> None:
    """Refuse a file that is neither ``.json`` nor ``.png``."""
    if output is not None and output.suffix not in (".json", ".png"):
        raise InputError(f"--output: expected a file ending in .json or .png, got {output}")


def records(picture: Picture, found: Detections) -> list[dict[str, Any]]:
    """Boxes as plain numbers: pixels, and the range of every collective variable."""
    return [_record(picture, found, number) for number in range(len(found.scores))]


def write(picture: Picture, found: Detections, output: Path, facts: dict[str, Any]) -> None:
    """Write the boxes with ``facts`` (``.json``), or a picture with them (``.png``)."""
    require_output(output)
    if output.suffix == ".json":
        write_text(output, json.dumps({**facts, "found": records(picture, found)}, indent=1) + "\n")
    else:
        _draw(picture, found, output, Path(str(facts["source"])).stem)


def _read(source: Path) -> Picture:
    """The picture behind a path.

    Raises
    ------
    MissingError
        If there is nothing.
    InputError
        If it cannot be used.
    """
    path = source / "surface.npz" if source.is_dir() else source
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a surface of mlsim fes, an image or a .npy array")
    if path.suffix == ".npz":
        return _surface(path)
    return Picture(read_values(path) if path.suffix == ".npy" else read_image(path))


def _surface(path: Path) -> Picture:
    surface = FreeEnergySurface.load(path)
    if len(surface.cv_names) != 2:
        raise InputError(f"{path}: expected a surface over two collective variables, got {len(surface.cv_names)}")
    axes = []
    for name, closed, edges in zip(surface.cv_names, surface.periodic, surface.edges, strict=True):
        low, high = (np.degrees(edges[[0, -1]]) if closed else edges[[0, -1]]).tolist()
        axes.append(Axis(name, "deg" if closed else "nm", low, high))
    # The first variable runs to the right, the second one along the rows.
    image = image_of(surface.free_energy.T / kT(surface.temperature_K))
    return Picture(image, tuple(axes), all(surface.periodic))


def _record(picture: Picture, found: Detections, number: int) -> dict[str, Any]:
    """One box as plain numbers: pixels, and the range of every collective variable."""
    box = found.boxes[number]
    record: dict[str, Any] = {
        "class": found.classes[int(found.labels[number])],
        "score": round(float(found.scores[number]), 4),
        "pixels": {name: round(float(value), 2) for name, value in zip(("x0", "y0", "x1", "y1"), box, strict=True)},
    }
    for which, axis in enumerate(picture.axes):
        step = (axis.high - axis.low) / picture.image.shape[1 - which]
        ends = [round(axis.low + step * float(box[which + side]), 3) for side in (0, 2)]
        record[f"{axis.name}_{axis.unit}"] = ends
    return record


def line(picture: Picture, record: dict[str, Any]) -> str:
    """One box as text."""
    spans = [f"{axis.name} {low:8.2f} .. {high:8.2f} {axis.unit}" for axis, low, high in _spans(picture, record)]
    if not spans:
        pixels = record["pixels"]
        spans = [f"{side} {pixels[side + '0']:6.1f} .. {pixels[side + '1']:6.1f}" for side in ("x", "y")]
    return f"  {record['class']:<14s} {record['score']:.2f}  " + "  ".join(spans)


def _spans(picture: Picture, record: dict[str, Any]) -> list[tuple[Axis, float, float]]:
    return [(axis, *record[f"{axis.name}_{axis.unit}"]) for axis in picture.axes]


def _draw(picture: Picture, found: Detections, output: Path, title: str) -> None:
    if not picture.axes:
        draw(picture.image, found, output, title=title)
        return
    across, up = picture.axes
    names = (f"{across.name} ({across.unit})", f"{up.name} ({up.unit})")
    draw(picture.image, found, output, window=(across.low, across.high, up.low, up.high), names=names, title=title)
