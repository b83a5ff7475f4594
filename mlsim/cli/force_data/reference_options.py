"""``mlsim reference``: explicit-solvent reference runs with force labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("reference")(reference)


def reference(
    system: Annotated[str, typer.Argument(help="Shipped system, directory of mlsim build, PDB file or sequence.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Reference directory; continued if it exists.")],
    ns: Annotated[float, typer.Option(help="Length per seed, ns.")],
    bias: Annotated[str, typer.Option(help="metadynamics, none, or the bias .npz of an earlier run (fixed).")] = (
        "metadynamics"
    ),
    first_seed: Annotated[int, typer.Option(help="Seed of the first run.")] = 1,
    seeds: Annotated[int, typer.Option(help="Number of independent runs (consecutive seeds).")] = 1,
    temperature: Annotated[float | None, typer.Option(help="Temperature, K. [default: 300]")] = None,
    timestep_fs: Annotated[float | None, typer.Option(help="Time step, fs. [default: 4]")] = None,
    padding_nm: Annotated[float | None, typer.Option(help="Water around the solute, nm. [default: 0.85]")] = None,
    record_ps: Annotated[float | None, typer.Option(help="Time between force labels, ps. [default: 0.2]")] = None,
    engine: Annotated[
        str | None, typer.Option(help="openmm, or gromacs: fixed bias, faster on processors. [default: openmm]")
    ] = None,
    platform: Annotated[str | None, typer.Option(help="auto, CPU, CUDA, OpenCL, HIP.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads per run; 0: all.")] = None,
    processes: Annotated[int, typer.Option(help="Seeds at the same time.")] = 1,
    max_hours: Annotated[float | None, typer.Option(help="Checkpoint and stop after this wall time.")] = None,
) -> None:
    """Run explicit TIP3P water with a bias on the backbone torsions and record solvent forces on the solute.

    Writes DIR/seed-NNNN (run directories) and DIR/frames.h5 (ForceFrames: positions nm, forces kJ/mol/nm, torsions,
    bias). Calling it again continues what is there, up to --ns.
    """
    from mlsim.chem.catalog import load_system
    from mlsim.cli.progress import MdProgress
    from mlsim.md.prepare import bias_for
    from mlsim.md.settings import ReferenceSettings
    from mlsim.md.signals import listening
    from mlsim.runs.restart import locked, storage
    from mlsim.workflow.fan_out import fan_out
    from mlsim.workflow.force_data.reference import SeedTask, done_steps, gather, recorded

    given: dict[str, Any] = {
        "temperature_K": temperature,
        "timestep_fs": timestep_fs,
        "padding_nm": padding_nm,
        "record_ps": record_ps,
        "engine": engine,
        "platform": platform,
        "threads": threads,
        "max_hours": max_hours,
    }
    settings = ReferenceSettings.parse(
        {"system": system, "ns": ns, "bias": bias} | {k: v for k, v in given.items() if v is not None}, "command line"
    )
    molecule = load_system(system)
    bias_for(molecule, settings)
    numbers = range(first_seed, first_seed + seeds)
    total = settings.total_steps * seeds
    with storage(output):
        output.mkdir(parents=True, exist_ok=True)
    tasks = [SeedTask(settings, output, number) for number in numbers]
    done = done_steps(output, numbers, settings)
    with listening() as stop, MdProgress(total, done, settings.timestep_fs) as bar:
        outcomes = fan_out(tasks, processes, bar, stop)
    for outcome in outcomes:
        print(f"{outcome.replica.directory}: {outcome.status} at step {outcome.step}")
    if stop.reason is None or recorded(output):
        with locked(output):
            print(f"force frames in {gather(molecule, output)}")
    if stop.reason is not None:
        print(f"stopped ({stop.reason}); the same command continues")
        sys.exit(stop.exit_code)
