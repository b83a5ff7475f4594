"""``mlsim train ebm``: an energy-based model from conformations alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlsim.cli import fit_options


def ebm(
    source: Annotated[
        str, typer.Argument(help="dw4, lj13, force frames (.h5), a run directory or a trajectory; forces are not used.")
    ],
    output: Annotated[Path, fit_options.OUTPUT],
    system: Annotated[str | None, typer.Option(help="Molecule, where the source does not say.")] = None,
    frames: Annotated[int, typer.Option(min=2, help="Most training conformations.")] = 10000,
    bias: Annotated[
        Path | None,
        typer.Option(
            help="bias.npz that the frames were made with: train with it, then leave it out. [default: weight]"
        ),
    ] = None,
    features: Annotated[int, typer.Option(help="Width of the network.")] = 32,
    layers: Annotated[int, typer.Option(help="Equivariant layers.")] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the conformations.")] = 40,
    batch: Annotated[int, typer.Option(help="Conformations per step.")] = 64,
    lr: Annotated[float, fit_options.RATE] = 3e-3,
    ema: Annotated[float, fit_options.AVERAGE] = 0.99,
    warm: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps that only denoise.")] = 0.5,
    negatives: Annotated[str, typer.Option(help="langevin, mala, esvgd or metropolised-esvgd.")] = "langevin",
    particles: Annotated[str, typer.Option(help="Particle set of esvgd: model, or model+data.")] = "model",
    steps: Annotated[int, typer.Option(help="Sampler steps per training step.")] = 10,
    step_length: Annotated[float, typer.Option(help="Length of a sampler step, of the data's length.")] = 0.1,
    noise: Annotated[float, typer.Option(help="Noise of the denoising term, of the data's length.")] = 0.15,
    most_noise: Annotated[
        float, typer.Option(help="Largest noise of the denoising term, of the data's length. [default: one noise]")
    ] = 0.0,
    divergence: Annotated[float, typer.Option(help="Weight of the contrastive term.")] = 1.0,
    denoising: Annotated[float, typer.Option(help="Weight of the denoising term.")] = 1.0,
    energy_square: Annotated[float, typer.Option(help="Weight of the squared energies.")] = 1e-4,
    temperature: Annotated[float, typer.Option(help="Temperature of the conformations, K.")] = 300.0,
    held_out: Annotated[float, typer.Option(help="Share of the conformations held out.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Root seed of weights, draws and negatives.")] = 1,
    threads: Annotated[int | None, fit_options.THREADS] = None,
    max_minutes: Annotated[float | None, fit_options.MAX_MINUTES] = None,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Learn an energy from conformations alone: mlsim train ebm dw4 -o DIR; then mlsim export, verify, run."""
    from mlsim.chem.system_directory import require_free
    from mlsim.dataset.batches import count
    from mlsim.train.contrastive.fit import fit
    from mlsim.train.contrastive.settings import ContrastiveSettings
    from mlsim.train.engine import use_threads
    from mlsim.train.settings import TrainSettings
    from mlsim.workflow.ebm import MOLECULE, NetworkSettings, prepare

    given = fit_options.training(epochs, batch, lr, ema, seed)
    train = TrainSettings.parse(
        given | {"patience": epochs, "clip_norm": 10.0, "max_minutes": max_minutes}, "command line"
    )
    network = NetworkSettings.parse({"features": features, "layers": layers}, "command line")
    values: dict[str, Any] = {
        "negatives": negatives,
        "particle_set": particles,
        "steps": steps,
        "step_length": step_length,
        "noise": noise,
        "most_noise": most_noise,
        "divergence": divergence,
        "denoising": denoising,
        "energy_square": energy_square,
    }
    ContrastiveSettings.parse(values, "command line")
    if not resume:
        require_free(output)
    if threads is not None:
        use_threads(threads)
    prepared = prepare(source, network, seed, system, frames, held_out, temperature, bias)
    values["warm_steps"] = round(warm * epochs * count(len(prepared.problem.train), batch))
    contrast = ContrastiveSettings.parse(values, "command line")
    found = fit(prepared.problem, train, contrast, output, prepared.facts, "auto", "resume" if resume else "new")
    prepared.molecule.to_pdb(output / MOLECULE)
    print(f"{prepared.facts['data']} (worth {prepared.facts['effective_frames']:g} independent weights)")
    how = fit_options.STOPPED[found.stopped]
    print(f"{found.epochs} epochs ({how}), held-out denoising error {found.held_out:.4f} (1: no score)")
    print(f"model in {output}; make it a force field with: mlsim export {output} --name NAME -o forcefields/")
