"""``mlsim encoders`` and ``mlsim encode``: features of a trajectory from a pretrained encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.representations.encode_settings import EncodeSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("encoders")(encoders)
    app.command("encode")(encode)


def encoders() -> None:
    """List the shipped encoders: kind, what they take, and what their features are good for."""
    from mlsim.workflow.representations import encode_frames

    shipped, kinds = encode_frames.encoders()
    if shipped:
        width = max(len(entry.name) for entry in shipped)
        for entry in shipped:
            print(f"{entry.name:<{width}s}  {entry.kind:<5s} {entry.inputs:<14s} {entry.summary}".rstrip())
    else:
        print("no encoder is shipped with this installation")
    print(f"kinds that can be loaded from a directory or hub name: {', '.join(kinds)}")


@generated(EncodeSettings)
def encode(
    trajectory: Annotated[
        Path, typer.Argument(metavar="TRAJ", help="Run directory, or trajectory in any format that mdtraj reads.")
    ],
    encoder: Annotated[str, typer.Option("--encoder", help="Shipped name (mlsim encoders), directory, or hub name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Path of the features (.npz).")],
    *,
    given: Given,
) -> None:
    """Features of every frame: mlsim encode runs/mine --encoder NAME -o features.npz.

    The file holds `features` [frames, d]; `frame`, `replica` and `time_ps` [frames]; `record` (JSON).
    """
    import sys

    from tqdm import tqdm

    from mlsim.workflow.representations.encode_frames import encode as compute
    from mlsim.workflow.requests import COMMAND_LINE

    settings = EncodeSettings.parse(given, COMMAND_LINE)
    with tqdm(desc="encode", unit="frame", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        features = compute(trajectory, encoder, output, settings, show)
    print(f"{output}: {features.shape[0]} frames, {features.shape[1]} features each")
