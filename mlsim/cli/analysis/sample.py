"""``mlsim sample``: a sampler on a test density, scored against its reference with the iid floor beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.analysis.analysis_settings import SampleSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("sample")(sample)


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@generated(SampleSettings, reading={"bandwidth": _number_or_word})
def sample(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="dw4, lj13, lj55, c4, circles, spheres, gaussian1.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Path of the particles and scores (.npz).")
    ] = None,
    *,
    given: Given,
) -> None:
    """Sample a test density and compare with its reference; every score stands beside the iid floor."""
    from mlsim.workflow.analysis import sample_density
    from mlsim.workflow.requests import COMMAND_LINE

    sample_density.require_output(output)
    settings = SampleSettings.parse(given, COMMAND_LINE)
    found = sample_density.sample(target, settings)
    typer.echo(
        f"{target}: {settings.sampler}, {settings.particles} particles, {found.gradients} gradients each, "
        f"seed {found.settings.seed}, {found.wall_s:.1f} s, stopped by {found.reason}"
    )
    typer.echo(f"{'metric':<24s} {'value':>10s} {'iid floor':>10s}")
    for name, value in found.scores.items():
        typer.echo(f"{name:<24s} {value:10.4f} {found.floor[name]:10.4f}")
    if found.discrepancies is not None:
        before, after, first = found.discrepancies
        typer.echo(
            f"Stein discrepancy {before:.4g} of all, {after:.4g} of the {settings.thin} kept, {first:.4g} of the "
            f"first {settings.thin}"
        )
    if output is not None:
        found.write(output)
        typer.echo(f"wrote {output}")
