"""``mlsim train``: fit a learned solvent to force data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlsim.dataset.frames import ForceFrames
    from mlsim.train.force_matching import Baseline, FitResult


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    group = typer.Typer(
        no_args_is_help=True, help="Fit a model to force data (see also: mlsim reference, mlsim label)."
    )
    group.command("issnet")(issnet)
    group.callback()(_group)
    app.add_typer(group, name="train")


def _group() -> None:
    """Fit a model to force data."""


def issnet(
    data: Annotated[list[Path], typer.Argument(help="Force frames (HDF5), of one molecule; several are joined.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Training directory.")],
    features: Annotated[int, typer.Option(help="Width of the network.")] = 64,
    blocks: Annotated[int, typer.Option(help="Interaction blocks.")] = 2,
    radial_functions: Annotated[int, typer.Option(help="Radial functions of the filters.")] = 32,
    cutoff_nm: Annotated[float, typer.Option(help="Range of the filters, nm.")] = 1.2,
    activation: Annotated[str, typer.Option(help="tanh or silu.")] = "tanh",
    baseline: Annotated[str, typer.Option(help="Implicit solvent under the network: none, obc2, gbn2.")] = "none",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training frames.")] = None,
    batch: Annotated[int | None, typer.Option(help="Frames per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average of the weights; 0 for none.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without improvement before stopping.")] = None,
    seed: Annotated[int, typer.Option(help="Root seed of weights, split and batches.")] = 1,
    held_out: Annotated[
        float, typer.Option(help="Share of the frames for early stopping; as many again for the test.")
    ] = 0.1,
    block_ps: Annotated[float, typer.Option(help="Length of the blocks of time that are split, ps.")] = 100.0,
    gap_ps: Annotated[float, typer.Option(help="Time left out between parts, ps.")] = 2.0,
    threads: Annotated[int | None, typer.Option(help="Processor threads.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after an epoch when this time is used up.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue in -o; repeat the other options as they were.")
    ] = False,
) -> None:
    """Fit an ISSNet by force matching: mlsim train issnet frames.h5 -o DIR."""
    from mlsim.dataset.frames import ForceFrames, concatenate
    from mlsim.dataset.split import by_block
    from mlsim.models.contract import create
    from mlsim.train.engine import use_threads
    from mlsim.train.force_matching import fit
    from mlsim.train.settings import TrainSettings

    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "learning_rate": lr,
        "ema_decay": ema,
        "patience": patience,
        "max_minutes": max_minutes,
    }
    given = {key: value for key, value in given.items() if value is not None}
    settings = TrainSettings.parse({**given, "seed": seed, "block_ps": block_ps}, "command line")
    config = {
        "features": features,
        "blocks": blocks,
        "n_radial": radial_functions,
        "cutoff_nm": cutoff_nm,
        "activation": activation,
        "baseline": baseline,
    }
    model = create("issnet", config, seed)
    frames = concatenate([ForceFrames.load(path) for path in data])
    parts = by_block(frames, (1 - 2 * held_out, held_out, held_out), block_ps, seed, gap_ps)
    if threads is not None:
        use_threads(threads)
    under = baseline_forces(baseline, parts.train, parts.valid)
    result = fit(model, parts.train, parts.valid, settings, output, "auto", under, "resume" if resume else "new")
    _report(result, parts.test, baseline, settings)


def baseline_forces(name: str, train: ForceFrames, valid: ForceFrames) -> Baseline | None:
    """Forces of the implicit solvent ``name`` on the frames; None for ``none``."""
    from mlsim.errors import InputError

    if name == "none":
        return None
    raise InputError(f"baseline '{name}': expected 'none', the only one this version can train on")


def _report(result: FitResult, test: ForceFrames, baseline: str, settings: Any) -> None:
    """Print the outcome, with errors on the test frames, and write these to ``test.json``."""
    import json

    from mlsim.train.force_matching import held_out_errors

    errors = held_out_errors(result.model, test, settings, baseline, None)
    (result.directory / "test.json").write_text(json.dumps(errors.as_dict(), indent=2) + "\n")
    how = {"finished": "all epochs done", "early": "no improvement", "time": "out of time; continue with --resume"}
    print(
        f"{result.epochs} epochs ({how[result.stopped]}), best {result.best_epoch}, {result.frames_per_s:.0f} frames/s"
    )
    print(f"force error on {errors.n_frames} test frames in {errors.n_blocks} blocks, {errors.unit}, 95 % intervals:")
    for row in errors.rows:
        print(f"  {row.predictor:8s} raw {row.raw}   without net force and torque {row.projected}")
    print(f"model in {result.directory}")
