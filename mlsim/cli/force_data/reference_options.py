"""``mlsim reference``: explicit-solvent reference runs with force labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.requests import ReferenceSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("reference")(reference)


@generated(
    ReferenceSettings,
    leave=("system", "solvent", "seed"),
    short={"temperature_K": "--temperature"},
    file="Path of a YAML file with settings.",
)
def reference(
    system: Annotated[str, typer.Argument(help="Shipped system, directory of mlsim build, PDB file or sequence.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Reference directory; continued if it exists.")],
    *,
    given: Given,
    first_seed: Annotated[int, typer.Option(help="Seed of the first run.")] = 1,
    seeds: Annotated[int, typer.Option(help="Number of independent runs (consecutive seeds).")] = 1,
    processes: Annotated[int, typer.Option(help="Number of seeds at the same time.")] = 1,
) -> None:
    """Run explicit TIP3P water with a bias on the backbone torsions and record solvent forces on the solute.

    Writes DIR/seed-NNNN (run directories) and DIR/frames.h5 (ForceFrames: positions nm, forces kJ/mol/nm, torsions,
    bias). Calling it again continues what is there, up to --ns.
    """
    from mlsim.cli.progress import MdProgress
    from mlsim.workflow.force_data.reference import done_steps
    from mlsim.workflow.force_data.reference import reference as make
    from mlsim.workflow.requests import listening, new_settings

    settings = new_settings(ReferenceSettings, system, given)
    numbers = range(first_seed, first_seed + seeds)
    done = done_steps(output, numbers, settings)
    with listening() as stop, MdProgress(settings.total_steps * seeds, done, settings.timestep_fs) as bar:
        made = make(settings, output, numbers, processes=processes, progress=bar, stop=stop)
    for outcome in made.outcomes:
        print(f"{outcome.replica.directory}: {outcome.status} at step {outcome.step}")
    if made.frames is not None:
        print(f"force frames in {made.frames}")
    if stop.reason is not None:
        print(f"stopped ({stop.reason}); the same command continues")
        sys.exit(stop.exit_code)
