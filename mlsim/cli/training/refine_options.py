"""``mlsim committee``, ``mlsim force-error``, ``mlsim refine``: how far to trust a learned solvent, and more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.cli.training import fit_options
from mlsim.workflow.training.fit_settings import RefineSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("committee")(committee)
    app.command("force-error")(force_error)
    app.command("refine")(refine)


def committee(
    conformations: Annotated[Path, typer.Argument(help="Run directory, force frames (.h5) or trajectory.")],
    forcefield: Annotated[list[str], typer.Option(help="Force field, by name or directory; two or more.")],
    system: Annotated[str, typer.Option(help="Molecule of the conformations.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Path of the table to write (CSV).")],
    top: Annotated[
        Path | None, typer.Option(help="Path of the PDB file of a trajectory. [default: topology.pdb beside it]")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of processor threads.")] = 1,
) -> None:
    """Mean and spread of several force fields, frame by frame: mlsim committee RUN --forcefield A --forcefield B ..."""
    import numpy as np

    from mlsim.workflow.conformations import of_system
    from mlsim.workflow.force_fields.opinions import write_opinions

    found = of_system(conformations, system, top)
    opinion = write_opinions(found, forcefield, system, output, threads)
    spread, worst = opinion.force_spread, int(opinion.force_spread.argmax())
    print(
        f"{output}: {len(found)} frames, {len(forcefield)} members; force spread {np.sqrt((spread**2).mean()):.2f} "
        f"kJ/mol/nm (99 % below {np.quantile(spread, 0.99):.2f}, largest {spread[worst]:.2f} in frame {worst}), energy "
        f"spread {np.sqrt((opinion.energy_spread**2).mean()):.2f} kJ/mol"
    )


def force_error(
    labels: Annotated[Path, typer.Argument(help="Labels with error bars (mlsim label) that no training has seen.")],
    born: Annotated[list[str] | None, typer.Option("--gb", help="Generalized Born model; may be repeated.")] = None,
    forcefield: Annotated[list[str] | None, typer.Option(help="Force field; may be repeated.")] = None,
    fit: Annotated[list[Path] | None, typer.Option(help="Training directory; may be repeated.")] = None,
    system: Annotated[str | None, typer.Option(help="Molecule. [default: the known system that fits]")] = None,
    block_ps: Annotated[
        float, typer.Option(help="Length of the blocks of time that are resampled for intervals, ps.")
    ] = 100.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Path of the JSON file to write.")] = None,
) -> None:
    """Error in the mean force with the labels' noise removed: mlsim force-error labels.h5 --gb obc2 --forcefield A."""
    from mlsim.cli.training.train import print_mean_force
    from mlsim.files import make_directory, write_json
    from mlsim.workflow.force_fields.mean_force import compare_on

    errors = compare_on(labels, born or (), forcefield or (), fit or (), system, block_ps)
    print_mean_force(errors)
    if output is not None:
        make_directory(output.parent)
        write_json(output, errors.as_dict())


@generated(
    RefineSettings,
    leave=("system",),
    short={"stderr_kJ_mol_nm": "--stderr", "uncertain_share": "--share"},
    file=fit_options.FILE,
)
def refine(
    forcefield: Annotated[list[str], typer.Option(help="Member of the committee; two or more, the first runs.")],
    system: Annotated[str, typer.Option(help="Molecule.")],
    name: Annotated[str, typer.Option(help="Name of the new members (NAME-1, NAME-2, ...).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of this round; continued if it exists.")],
    *,
    given: Given,
    data: Annotated[
        list[Path] | None, typer.Option(help="Path of earlier labels to train on as well; may be repeated.")
    ] = None,
) -> None:
    """One round of active learning: run, label what the committee is unsure of, train again.

    The same command continues after a kill. Writes -o/forcefields/NAME-1 ..., verified; feed them to the next round.
    """
    from mlsim.cli.force_data.label_options import LabelBar
    from mlsim.cli.progress import MdProgress
    from mlsim.cli.training.train import print_mean_force
    from mlsim.workflow.force_fields.field_settings import plain_name
    from mlsim.workflow.requests import COMMAND_LINE, listening
    from mlsim.workflow.training import refine as work

    plain_name(name)
    settings = RefineSettings.parse({**given, "system": system}, COMMAND_LINE)
    run, labels = work.requests(settings)
    made = work.finished(labels, output / "labels")
    with (
        listening() as stop,
        MdProgress(run.total_steps, 0, run.timestep_fs) as running,
        LabelBar(settings.count, made, work.UNITS_PER_LABEL) as labelling,
    ):
        members = work.refine(forcefield, name, output, settings, data or (), progress=(running, labelling), stop=stop)
    if members is None:
        print(f"stopped ({stop.reason}); the same command continues")
        sys.exit(stop.exit_code)
    for member in members:
        print(f"{member.artifact.name}: verified, in {member.artifact.directory}")
        if member.errors is not None:
            print_mean_force(member.errors)
