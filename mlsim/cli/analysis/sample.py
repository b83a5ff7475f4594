"""``mlsim sample``: a sampler on a test density, scored against its reference with the iid floor beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("sample")(sample)


def sample(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="dw4, lj13, lj55, c4, circles, spheres, gaussian1.")],
    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="svgd, esvgd, noisy-esvgd, kinetic-esvgd, metropolised-esvgd, mala, hmc, tempering, ...",
        ),
    ] = "esvgd",
    particles: Annotated[int, typer.Option(min=1, help="Number of particles.")] = 100,
    gradients: Annotated[int, typer.Option(min=1, help="Budget: gradient evaluations per particle.")] = 500,
    kernel: Annotated[str, typer.Option(help="Stein kernel: auto, smooth, pullback, alignment.")] = "auto",
    bandwidth: Annotated[str, typer.Option(help="Bandwidth: median, ksd, or a length.")] = "median",
    stop: Annotated[
        str, typer.Option(help="budget, or ksd: at a plateau of the equivariant Stein discrepancy.")
    ] = "budget",
    thin: Annotated[int, typer.Option(min=0, help="Keep so many particles by Stein thinning (0: all).")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Root seed; drawn and printed if not given.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write particles and scores (.npz).")] = None,
) -> None:
    """Sample a test density and compare with its reference; every score stands beside the iid floor."""
    from mlsim.workflow.analysis import sample_density
    from mlsim.workflow.requests import COMMAND_LINE

    sample_density.require_output(output)
    settings = sample_density.SampleSettings.parse(
        {
            "sampler": sampler,
            "particles": particles,
            "gradients": gradients,
            "kernel": kernel,
            "bandwidth": _number_or_word(bandwidth),
            "stop": stop,
            "thin": thin,
            "seed": seed,
        },
        COMMAND_LINE,
    )
    found = sample_density.sample(target, settings)
    typer.echo(
        f"{target}: {sampler}, {particles} particles, {found.gradients} gradients each, seed {found.settings.seed}, "
        f"{found.wall_s:.1f} s, stopped by {found.reason}"
    )
    typer.echo(f"{'metric':<24s} {'value':>10s} {'iid floor':>10s}")
    for name, value in found.scores.items():
        typer.echo(f"{name:<24s} {value:10.4f} {found.floor[name]:10.4f}")
    if found.discrepancies is not None:
        before, after, first = found.discrepancies
        typer.echo(
            f"Stein discrepancy {before:.4g} of all, {after:.4g} of the {thin} kept, {first:.4g} of the first {thin}"
        )
    if output is not None:
        found.write(output)
        typer.echo(f"wrote {output}")


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
