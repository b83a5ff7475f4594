"""``mlsim sample``: a sampler on a test density, scored against its reference with the iid floor beside it."""

from __future__ import annotations

import json
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
    import numpy as np

    from mlsim.errors import InputError
    from mlsim.files import write_npz
    from mlsim.samplers.methods.stopping import plateau
    from mlsim.samplers.sampler_catalog import SamplerSettings, stein_kernel
    from mlsim.samplers.targets import by_name, trial
    from mlsim.seeds import fresh_seed

    if output is not None and output.suffix != ".npz":
        raise InputError(f"--output: expected a file ending in .npz, got {output}")
    if stop not in ("budget", "ksd"):
        raise InputError(f"--stop: expected budget or ksd, got '{stop}'")
    if thin > particles:
        raise InputError(f"--thin: expected at most the {particles} particles, got {thin}")
    chosen = by_name(target)
    root = fresh_seed() if seed is None else seed
    settings = SamplerSettings.parse(
        {
            "method": sampler,
            "gradients": gradients,
            "length": chosen.length,
            "kernel": kernel,
            "bandwidth": _number_or_word(bandwidth),
        },
        "mlsim sample",
    )
    stein = stein_kernel(chosen.symmetry, settings)
    outcome = trial.run(chosen, settings, particles, root, stop=plateau(stein) if stop == "ksd" else None)
    samples, floor = outcome.samples, trial.floor(chosen, particles)
    typer.echo(
        f"{target}: {sampler}, {particles} particles, {samples.gradients} gradients each, seed {root}, "
        f"{outcome.wall_s:.1f} s, stopped by {samples.reason}"
    )
    typer.echo(f"{'metric':<24s} {'value':>10s} {'iid floor':>10s}")
    for name, value in outcome.metrics.items():
        typer.echo(f"{name:<24s} {value:10.4f} {floor[name]:10.4f}")
    positions, log_density = samples.positions, samples.log_density
    if thin:
        kept, before, after, first = trial.thinned(chosen, positions, stein, thin)
        typer.echo(
            f"Stein discrepancy {before:.4g} of all, {after:.4g} of the {thin} kept, {first:.4g} of the first {thin}"
        )
        positions, log_density = positions[kept], log_density[kept]
    if output is not None:
        record = {"target": target, "seed": root, "settings": settings.model_dump(), "scores": outcome.metrics}
        text = json.dumps(record | {"floor": floor})
        arrays = {"positions": positions.numpy(), "log_density": log_density.numpy(), "record": np.array(text)}
        write_npz(output, arrays)
        typer.echo(f"wrote {output}")


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
