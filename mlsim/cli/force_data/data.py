"""``mlsim data``: explicit-water force data of many peptides from one manifest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.panels import PanelGroup

_MANIFEST = typer.Argument(help="Path of the manifest (YAML).")
_DIRECTORY = typer.Option("--output", "-o", help="Directory of the runs; continued if it exists.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    group = typer.Typer(
        cls=PanelGroup, no_args_is_help=True, help="Force data of many peptides in explicit water, from one manifest."
    )
    group.command("make")(make)
    group.command("status")(status)
    group.command("pack")(pack)
    group.callback()(_group)
    app.add_typer(group, name="data")


def _group() -> None:
    """Force data of many peptides in explicit water, from one manifest."""


def make(
    manifest: Annotated[Path, _MANIFEST],
    output: Annotated[Path, _DIRECTORY],
    threads: Annotated[int, typer.Option(help="Number of processor threads of GROMACS.", min=1)] = 1,
    packed: Annotated[
        Path | None, typer.Option(help="Directory of packed files; what it holds is not made again.")
    ] = None,
) -> None:
    """Run every segment of the set that is not done; can be stopped at any time, the same command continues."""
    from mlsim.workflow.force_data import make_peptide_set
    from mlsim.workflow.force_data.peptide_set import Manifest
    from mlsim.workflow.requests import listening

    plan = Manifest.load(manifest)
    with listening() as stop:
        result = make_peptide_set.make(
            plan, manifest.parent, output, threads, stop, say=lambda line: print(line, flush=True), packed=packed
        )
    print(result)
    if stop.reason is not None:
        print(f"stopped ({stop.reason}); the same command continues")
        sys.exit(stop.exit_code)


def status(manifest: Annotated[Path, _MANIFEST], output: Annotated[Path, _DIRECTORY]) -> None:
    """Say how much of the set there is, peptide by peptide."""
    from mlsim.workflow.force_data import make_peptide_set
    from mlsim.workflow.force_data.peptide_set import Manifest, segments

    plan = Manifest.load(manifest)
    rows: dict[str, list[str]] = {}
    for segment in segments(plan, output):
        rows.setdefault(segment.entry.sequence, []).append(segment.state)
    width = max(len(sequence) for sequence in rows)
    for sequence, states in rows.items():
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "begun", "waiting", "failed") if s in states)
        print(f"{sequence:<{width}}  {counts}")
    print(make_peptide_set.tally(plan, output))


def pack(
    manifest: Annotated[Path, _MANIFEST],
    output: Annotated[Path, _DIRECTORY],
    to: Annotated[Path, typer.Option(help="Directory of the packed files, one per segment.")],
    every: Annotated[int, typer.Option(help="Number of frames of which one is kept.", min=1)] = 1,
) -> None:
    """Write the frames of finished segments as packed files; those that are there already stay."""
    from mlsim.workflow.force_data import make_peptide_set
    from mlsim.workflow.force_data.peptide_set import Manifest

    written = make_peptide_set.pack(Manifest.load(manifest), output, to, every)
    for path, frames in written:
        print(f"{path}: {frames} frames, {path.stat().st_size / 2**20:.2f} MiB")
    print(f"{len(written)} segments packed; what was there already is as it was")
