"""``mlsim train``: fit a learned solvent to force data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.cli.panels import PanelGroup
from mlsim.cli.training import fit_options
from mlsim.cli.training.ebm_options import ebm
from mlsim.cli.training.peptides import peptide_populations, peptides
from mlsim.workflow.training.fit_settings import IssnetSettings, PopulationsSettings

if TYPE_CHECKING:
    from mlsim.workflow.training.solvent_fits import MeanForceErrors, SolventFit


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


@generated(IssnetSettings, short={**fit_options.SHORT, "n_radial": "--radial-functions"}, file=fit_options.FILE)
def issnet(
    data: Annotated[list[Path], typer.Argument(help="Force frames (HDF5), of one molecule; several are joined.")],
    output: Annotated[Path, fit_options.OUTPUT],
    *,
    given: Given,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Fit an ISSNet by force matching: mlsim train issnet frames.h5 -o DIR.

    Labels with error bars (mlsim label) are weighted by their covariance, and the error is freed of their noise.
    """
    from mlsim.workflow.requests import COMMAND_LINE
    from mlsim.workflow.training.solvent_fits import train_issnet

    settings = IssnetSettings.parse(given, COMMAND_LINE)
    _report(train_issnet(data, output, settings, "resume" if resume else "new"))


@generated(PopulationsSettings, leave=("fit",), short=fit_options.SHORT, file=fit_options.FILE)
def populations(
    fit: Annotated[Path, typer.Argument(help="Training directory of the model to correct.")],
    data: Annotated[list[Path], typer.Option(help="Force frames (HDF5) in explicit water; repeat to join several.")],
    output: Annotated[Path, fit_options.OUTPUT],
    *,
    given: Given,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Correct basin populations: mlsim train populations FIT --run RUN --data frames.h5 -o DIR.

    The frames must be those of FIT; they are split as FIT split them.
    """
    from mlsim.workflow.requests import COMMAND_LINE
    from mlsim.workflow.training.solvent_fits import train_populations

    settings = PopulationsSettings.parse({**given, "fit": fit}, COMMAND_LINE)
    found = train_populations(data, output, settings, "resume" if resume else "new")
    _report(found)
    print(f"held-out pair loss {found.pair_loss:.4f} (0.6931: model and explicit ensembles were alike)")


def _report(found: SolventFit) -> None:
    """Print how a fit ended, and its errors on the test frames."""
    result, errors = found.result, found.errors
    how = fit_options.STOPPED[result.stopped]
    print(f"{result.epochs} epochs ({how}), best {result.best_epoch}, {result.frames_per_s:.0f} frames/s")
    print(f"force error on {errors.n_frames} test frames in {errors.n_blocks} blocks, {errors.unit}, 95 % intervals:")
    for row in errors.rows:
        print(f"  {row.predictor:8s} raw {row.raw}   without net force and torque {row.projected}")
    if found.mean_force is not None:
        print_mean_force(found.mean_force)
    print(f"model in {result.directory}")


def print_mean_force(errors: MeanForceErrors) -> None:
    """Print noise-corrected errors beside the raw ones."""
    print(
        f"error in the mean force on {errors.n_labels} labels, {errors.unit}, 95 % intervals "
        f"(noise of the labels {errors.noise:.2f} removed):"
    )
    for row in errors.rows:
        print(f"  {row.predictor:12s} {row.projected}   from whole labels {row.corrected}   with the noise {row.raw}")
