"""``mlsim detect``: boxes in a free-energy surface or in an image, by a small trained detector.

INPUT is a surface of ``mlsim fes`` over two collective variables (``.npz``, or the directory that holds
``surface.npz``), an image file, or a ``.npy`` array with values in [0, 1], such as a contact map. In a surface basins
are looked for, periodic ones across the seam, and boxes come out in the units of the collective variables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("detect")(detect)


def detect(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Surface of mlsim fes, image, or .npy array.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Path of the boxes (.json), or of a picture with them (.png).")
    ] = None,
    detector: Annotated[str, typer.Option(help="Name of a shipped detector, or its directory.")] = "maps",
    score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest score that is reported.")] = 0.45,
) -> None:
    """Find basins in a free-energy surface, or helices and strand pairs in a contact map."""
    from mlsim.workflow.representations import detect_boxes

    detect_boxes.require_output(output)
    picture, found = detect_boxes.detect(source, detector, score)
    boxes = detect_boxes.records(picture, found)
    typer.echo(f"{source}: {len(boxes)} found with a score of {score:g} or more")
    for record in boxes:
        typer.echo(detect_boxes.line(picture, record))
    if output is not None:
        facts = {"source": str(source), "detector": detector, "score": score}
        detect_boxes.write(picture, found, output, facts)
        typer.echo(f"wrote {output}")
