"""``mlsim train ebm``: an energy-based model from conformations alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlsim.cli.training import fit_options

BY_DATA = "[default: by the data]"


def ebm(
    source: Annotated[
        str, typer.Argument(help="dw4, lj13, force frames (.h5), a run directory or a trajectory; forces are not used.")
    ],
    output: Annotated[Path, fit_options.OUTPUT],
    system: Annotated[str | None, typer.Option(help="Molecule, where the source does not say.")] = None,
    frames: Annotated[int | None, typer.Option(min=2, help=f"Most training conformations. {BY_DATA}")] = None,
    bias: Annotated[
        Path | None,
        typer.Option(
            help="bias.npz that the frames were made with: train with it, then leave it out. [default: weight]"
        ),
    ] = None,
    begin_at: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights and the negatives of this finished fit of the same data."),
    ] = None,
    features: Annotated[int, typer.Option(help="Width of the network.")] = 32,
    layers: Annotated[int, typer.Option(help="Equivariant layers.")] = 2,
    epochs: Annotated[int | None, typer.Option(help=f"Passes over the conformations. {BY_DATA}")] = None,
    batch: Annotated[int, typer.Option(help="Conformations per step.")] = 64,
    lr: Annotated[float, fit_options.RATE] = 3e-3,
    ema: Annotated[float, fit_options.AVERAGE] = 0.99,
    warm: Annotated[
        float | None, typer.Option(min=0, max=1, help=f"Share of the steps that only denoise. {BY_DATA}")
    ] = None,
    negatives: Annotated[
        str | None, typer.Option(help=f"langevin, kinetic, mala, esvgd or metropolised-esvgd. {BY_DATA}")
    ] = None,
    particles: Annotated[str, typer.Option(help="Particle set of esvgd: model, or model+data.")] = "model",
    steps: Annotated[int | None, typer.Option(help=f"Sampler steps per training step. {BY_DATA}")] = None,
    step_length: Annotated[float, typer.Option(help="Length of a sampler step, of the data's length.")] = 0.1,
    noise: Annotated[
        float | None, typer.Option(help=f"Noise of the denoising term, of the data's length. {BY_DATA}")
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(help=f"Noise on the conformations of the contrastive term, of the data's length. {BY_DATA}"),
    ] = None,
    buffer: Annotated[int | None, typer.Option(min=4, help=f"Negatives kept between training steps. {BY_DATA}")] = None,
    reset: Annotated[
        float | None, typer.Option(help=f"Share of the negatives that start afresh at every step. {BY_DATA}")
    ] = None,
    divergence: Annotated[float, typer.Option(help="Weight of the contrastive term.")] = 1.0,
    denoising: Annotated[float, typer.Option(help="Weight of the denoising term.")] = 1.0,
    energy_square: Annotated[float, typer.Option(help="Weight of the squared energies.")] = 1e-4,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the conformations, K. [default: what frames or run say]")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the conformations held out.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Root seed of weights, draws and negatives.")] = 1,
    threads: Annotated[int | None, fit_options.THREADS] = None,
    max_minutes: Annotated[float | None, fit_options.MAX_MINUTES] = None,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Learn an energy from conformations alone: mlsim train ebm dw4 -o DIR; then mlsim export, verify, run."""
    from mlsim.dataset.batches import count
    from mlsim.fitting.checkpoint import LAYOUT
    from mlsim.fitting.density.contrastive_fit import fit, take_up
    from mlsim.fitting.density.settings import ContrastiveSettings
    from mlsim.fitting.settings import TrainSettings
    from mlsim.fitting.solvent.engine import use_threads
    from mlsim.starts import require_start
    from mlsim.workflow.training.baseline import keep_molecule
    from mlsim.workflow.training.ebm import NetworkSettings, Recipe, prepare, recipe_for

    asked = {
        "frames": frames,
        "epochs": epochs,
        "warm": warm,
        "negatives": negatives,
        "steps": steps,
        "noise": noise,
        "smoothing": smoothing,
        "buffer": buffer,
        "reset": reset,
    }
    recipe = Recipe.parse(
        recipe_for(source).model_dump() | {key: value for key, value in asked.items() if value is not None},
        "command line",
    )
    given = fit_options.training(recipe.epochs, batch, lr, ema, seed)
    train = TrainSettings.parse(
        given | {"patience": recipe.epochs, "clip_norm": 10.0, "max_minutes": max_minutes}, "command line"
    )
    network = NetworkSettings.parse({"features": features, "layers": layers}, "command line")
    values: dict[str, Any] = {
        **recipe.model_dump(exclude={"frames", "epochs", "warm", "smoothing"}),
        "data_noise": recipe.smoothing,
        "particle_set": particles,
        "step_length": step_length,
        "divergence": divergence,
        "denoising": denoising,
        "energy_square": energy_square,
    }
    ContrastiveSettings.parse(values, "command line")
    require_start(output, LAYOUT, "resume" if resume else "new")
    if threads is not None:
        use_threads(threads)
    prepared = prepare(source, network, recipe, seed, system, held_out, temperature, bias)
    values["warm_steps"] = round(recipe.warm * recipe.epochs * count(len(prepared.problem.train), batch))
    contrast = ContrastiveSettings.parse(values, "command line")
    first = None if begin_at is None else take_up(prepared.problem, begin_at)
    found = fit(prepared.problem, train, contrast, output, prepared.facts, "auto", "resume" if resume else "new", first)
    keep_molecule(prepared.molecule, output)
    print(f"{prepared.facts['data']} (worth {prepared.facts['effective_frames']:g} independent weights)")
    how = fit_options.STOPPED[found.stopped]
    print(f"{found.epochs} epochs ({how}), held-out denoising error {found.held_out:.4f} (1: no score)")
    print(f"model in {output}; make it a force field with: mlsim export {output} --name NAME -o forcefields/")
