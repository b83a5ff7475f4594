"""``mlsim train``: fit a learned solvent to force data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlsim.cli.panels import PanelGroup
from mlsim.cli.training import fit_options
from mlsim.cli.training.ebm_options import ebm
from mlsim.cli.training.peptides import peptide_populations, peptides

if TYPE_CHECKING:
    from mlsim.dataset.frames import ForceFrames
    from mlsim.fitting.solvent.force_matching import FitResult
    from mlsim.fitting.solvent.mean_force_error import MeanForceErrors


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    group = typer.Typer(
        cls=PanelGroup,
        no_args_is_help=True,
        help="Fit a model to forces (of mlsim reference, mlsim label) or to conformations.",
    )
    group.command("issnet")(issnet)
    group.command("populations")(populations)
    group.command("ebm")(ebm)
    group.command("peptides")(peptides)
    group.command("peptide-populations")(peptide_populations)
    group.callback()(_group)
    app.add_typer(group, name="train")


def _group() -> None:
    """Fit a model to force data."""


def issnet(
    data: Annotated[list[Path], typer.Argument(help="Force frames (HDF5), of one molecule; several are joined.")],
    output: Annotated[Path, fit_options.OUTPUT],
    features: Annotated[int, typer.Option(help="Width of the network.")] = 64,
    blocks: Annotated[int, typer.Option(help="Interaction blocks.")] = 2,
    radial_functions: Annotated[int, typer.Option(help="Radial functions of the filters.")] = 32,
    cutoff_nm: Annotated[float, typer.Option(help="Range of the filters, nm.")] = 1.2,
    activation: Annotated[str, typer.Option(help="silu (learns faster), or tanh as in the article.")] = "silu",
    baseline: Annotated[str, typer.Option(help="Under the network: none, obc2 (charged side chains), gbn2.")] = "none",
    system: Annotated[
        str | None, typer.Option(help="Molecule of the frames, for a baseline. [default: the known system that fits]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training frames.")] = None,
    batch: Annotated[int | None, typer.Option(help="Frames per step.")] = None,
    lr: Annotated[float | None, fit_options.RATE] = None,
    ema: Annotated[float | None, fit_options.AVERAGE] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without improvement before stopping.")] = None,
    seed: Annotated[int, typer.Option(help="Root seed of weights, split and batches.")] = 1,
    held_out: Annotated[
        float, typer.Option(help="Share of the frames for early stopping; as many again for the test.")
    ] = 0.1,
    block_ps: Annotated[float, typer.Option(help="Length of the blocks of time that are split, ps.")] = 100.0,
    gap_ps: Annotated[float, typer.Option(help="Time left out between parts, ps.")] = 2.0,
    threads: Annotated[int | None, fit_options.THREADS] = None,
    max_minutes: Annotated[float | None, fit_options.MAX_MINUTES] = None,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Fit an ISSNet by force matching: mlsim train issnet frames.h5 -o DIR.

    Labels with error bars (mlsim label) are weighted by their covariance, and the error is freed of their noise.
    """
    from mlsim.dataset.frames import ForceFrames, concatenate
    from mlsim.dataset.split import by_block
    from mlsim.fitting.settings import TrainSettings
    from mlsim.fitting.solvent.engine import use_threads
    from mlsim.fitting.solvent.mean_force_matching import defaults, fit
    from mlsim.models.contract import create
    from mlsim.workflow.training.baseline import baseline_for, keep_molecule, molecule_of

    given = fit_options.training(epochs, batch, lr, ema, seed) | {"block_ps": block_ps, "max_minutes": max_minutes}
    if patience is not None:
        given["patience"] = patience
    frames = concatenate([ForceFrames.load(path) for path in data])
    settings = TrainSettings.parse(defaults(frames, held_out) | given, "command line")
    config = {
        "features": features,
        "blocks": blocks,
        "n_radial": radial_functions,
        "cutoff_nm": cutoff_nm,
        "activation": activation,
        "baseline": baseline,
    }
    model = create("issnet", config, seed)
    parts = by_block(frames, (1 - 2 * held_out, held_out, held_out), block_ps, seed, gap_ps)
    if threads is not None:
        use_threads(threads)
    under = None
    if baseline != "none":
        under = baseline_for(baseline, molecule_of(frames, system), parts.train, parts.valid)
    result = fit(model, parts.train, parts.valid, settings, output, "auto", under, "resume" if resume else "new")
    if system is not None:
        keep_molecule(molecule_of(frames, system), output)
    _report(result, parts.test, baseline, settings, system)


def populations(
    fit: Annotated[Path, typer.Argument(help="Training directory of the model to correct.")],
    run: Annotated[Path, typer.Option(help="Run with that model: fixed bias (best that of the frames) or none.")],
    data: Annotated[list[Path], typer.Option(help="Force frames (HDF5) in explicit water; repeat to join several.")],
    output: Annotated[Path, fit_options.OUTPUT],
    weight: Annotated[float, typer.Option(help="Weight of the populations beside the forces.")] = 0.3,
    epochs: Annotated[int, typer.Option(help="Passes over the force frames.")] = 3,
    batch: Annotated[int, typer.Option(help="Force frames per step.")] = 32,
    pairs: Annotated[int, typer.Option(help="Pairs per step.")] = 64,
    lr: Annotated[float, fit_options.RATE] = 5e-4,
    ema: Annotated[float, fit_options.AVERAGE] = 0.99,
    discard_ps: Annotated[float, typer.Option(help="Start of the explicit frames that is left out, ps.")] = 0.0,
    discard_run_ps: Annotated[float, typer.Option(help="Start of the run that is left out, ps.")] = 100.0,
    system: Annotated[str | None, typer.Option(help="Molecule. [default: the known system that fits]")] = None,
    seed: Annotated[int, typer.Option(help="Root seed of the batches and pairs.")] = 1,
    threads: Annotated[int | None, fit_options.THREADS] = None,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Correct basin populations: mlsim train populations FIT --run RUN --data frames.h5 -o DIR.

    The frames must be those of FIT; they are split as FIT split them.
    """
    from mlsim.dataset.frames import ForceFrames, concatenate
    from mlsim.fitting.settings import TrainSettings
    from mlsim.fitting.solvent import population_matching
    from mlsim.fitting.solvent.engine import use_threads
    from mlsim.models.weights import load
    from mlsim.records import FitRecord
    from mlsim.runs.trajectory import Run
    from mlsim.workflow.training.baseline import baseline_for, keep_molecule, molecule_of
    from mlsim.workflow.training.populations import (
        explicit_ensemble,
        first_split,
        generated_ensembles,
        require_temperature,
    )

    first = FitRecord.read(fit)
    frames = concatenate([ForceFrames.load(path) for path in data])
    parts = first_split(first, frames, str(fit))
    values = fit_options.training(epochs, batch, lr, ema, seed) | {"block_ps": parts.note.block_ps}
    settings = TrainSettings.parse(values, "command line")
    extra = population_matching.PopulationSettings.parse({"weight": weight, "pairs": pairs}, "command line")
    made = Run.open(run)
    require_temperature(first, made)
    if threads is not None:
        use_threads(threads)
    model, molecule = load(fit), molecule_of(frames, system)
    under = getattr(model.config, "baseline", "none")
    result, pair_loss = population_matching.fit(
        model,
        (parts.train, parts.valid),
        (explicit_ensemble(parts.train, made, discard_ps), explicit_ensemble(parts.valid, made, discard_ps)),
        generated_ensembles(made, molecule, discard_run_ps, parts.note.fractions[1]),
        made.temperature_K,
        settings,
        extra,
        output,
        "auto",
        baseline_for(under, molecule, parts.train, parts.valid),
        "resume" if resume else "new",
        first.identity,
    )
    keep_molecule(molecule, output)
    _report(result, parts.test, under, settings, system)
    print(f"held-out pair loss {pair_loss:.4f} (0.6931: model and explicit ensembles were alike)")


def _report(result: FitResult, test: ForceFrames, baseline: str, settings: Any, system: str | None) -> None:
    """Print the outcome, with errors on the test frames, and write these to ``test.json``."""
    import json

    from mlsim.fitting.solvent.force_matching import held_out_errors

    forces = None
    if baseline != "none":
        from mlsim.workflow.training.baseline import born_forces, molecule_of

        forces = born_forces(baseline, molecule_of(test, system), test.positions)
    errors = held_out_errors(result.model, test, settings, baseline, forces)
    (result.directory / "test.json").write_text(json.dumps(errors.as_dict(), indent=2) + "\n")
    how = fit_options.STOPPED[result.stopped]
    print(f"{result.epochs} epochs ({how}), best {result.best_epoch}, {result.frames_per_s:.0f} frames/s")
    print(f"force error on {errors.n_frames} test frames in {errors.n_blocks} blocks, {errors.unit}, 95 % intervals:")
    for row in errors.rows:
        print(f"  {row.predictor:8s} raw {row.raw}   without net force and torque {row.projected}")
    if test.covariance is not None:
        from mlsim.fitting.solvent.force_error import predict
        from mlsim.fitting.solvent.mean_force_error import mean_force_errors

        alone = predict(result.model, test)
        predicted: dict[str, Any] = {} if forces is None else {baseline: forces}
        predicted["model"] = alone if forces is None else alone + forces
        found = mean_force_errors(test, predicted, settings.block_ps, settings.seed)
        (result.directory / "mean_force.json").write_text(json.dumps(found.as_dict(), indent=2) + "\n")
        print_mean_force(found)
    print(f"model in {result.directory}")


def print_mean_force(errors: MeanForceErrors) -> None:
    """Print noise-corrected errors beside the raw ones."""
    print(
        f"error in the mean force on {errors.n_labels} labels, {errors.unit}, 95 % intervals "
        f"(noise of the labels {errors.noise:.2f} removed):"
    )
    for row in errors.rows:
        print(f"  {row.predictor:12s} {row.projected}   from whole labels {row.corrected}   with the noise {row.raw}")
