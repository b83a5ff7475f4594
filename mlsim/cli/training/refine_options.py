"""``mlsim committee``, ``mlsim force-error``, ``mlsim refine``: how far to trust a learned solvent, and more."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("committee")(committee)
    app.command("force-error")(force_error)
    app.command("refine")(refine)


def committee(
    conformations: Annotated[Path, typer.Argument(help="Run directory, force frames (.h5) or trajectory.")],
    forcefield: Annotated[list[str], typer.Option(help="Force field, by name or directory; give two or more.")],
    system: Annotated[str, typer.Option(help="Molecule of the conformations.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write (CSV).")],
    top: Annotated[Path | None, typer.Option(help="PDB file of a trajectory. [default: topology.pdb by it]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
) -> None:
    """Mean and spread of several force fields, frame by frame: mlsim committee RUN --forcefield A --forcefield B ..."""
    import numpy as np

    from mlsim.chem.catalog import load_system
    from mlsim.runs.restart import storage, write_atomically
    from mlsim.workflow.conformations import read
    from mlsim.workflow.training import refine as work

    found = read(conformations, load_system(system), top)
    opinion = work.committee(forcefield, system).evaluate(found.positions, threads)
    columns = (found.run, found.time_ps, opinion.energies, opinion.energy_spread, opinion.force_spread)
    text = "frame,run,time_ps,energy_kJ_mol,energy_spread_kJ_mol,force_spread_kJ_mol_nm\n"
    rows = enumerate(zip(*columns, strict=True))
    text += "".join(f"{k},{r},{t:.6g},{e:.6f},{se:.6f},{sf:.6f}\n" for k, (r, t, e, se, sf) in rows)
    with storage(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, text)
    spread, worst = opinion.force_spread, int(opinion.force_spread.argmax())
    print(
        f"{output}: {len(found)} frames, {len(forcefield)} members; force spread {np.sqrt((spread**2).mean()):.2f} "
        f"kJ/mol/nm (99 % below {np.quantile(spread, 0.99):.2f}, largest {spread[worst]:.2f} in frame {worst}), energy "
        f"spread {np.sqrt((opinion.energy_spread**2).mean()):.2f} kJ/mol"
    )


def force_error(
    labels: Annotated[Path, typer.Argument(help="Labels with error bars (mlsim label) that no training has seen.")],
    born: Annotated[list[str] | None, typer.Option("--gb", help="Generalized Born model; repeat.")] = None,
    forcefield: Annotated[list[str] | None, typer.Option(help="Force field; repeat.")] = None,
    fit: Annotated[list[Path] | None, typer.Option(help="Training directory; repeat.")] = None,
    system: Annotated[str | None, typer.Option(help="Molecule. [default: the known system that fits]")] = None,
    block_ps: Annotated[float, typer.Option(help="Blocks of time that are resampled for intervals, ps.")] = 100.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
) -> None:
    """Error in the mean force with the labels' noise removed: mlsim force-error labels.h5 --gb obc2 --forcefield A."""
    from mlsim.cli.training.train import print_mean_force
    from mlsim.dataset.frames import ForceFrames
    from mlsim.runs.restart import storage, write_atomically
    from mlsim.workflow.force_fields.mean_force import compare
    from mlsim.workflow.training.baseline import molecule_of

    frames = ForceFrames.load(labels)
    errors = compare(frames, molecule_of(frames, system), born or (), forcefield or (), fit or (), block_ps)
    print_mean_force(errors)
    if output is not None:
        with storage(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, json.dumps(errors.as_dict(), indent=2) + "\n")


def refine(
    forcefield: Annotated[list[str], typer.Option(help="Member of the committee; two or more, the first runs.")],
    system: Annotated[str, typer.Option(help="Molecule.")],
    name: Annotated[str, typer.Option(help="Name of the new members (NAME-1, NAME-2, ...).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of this round; continued if it exists.")],
    data: Annotated[list[Path] | None, typer.Option(help="Earlier labels to train on as well; repeat.")] = None,
    ns: Annotated[float, typer.Option(help="Length of the run, ns.")] = 1.0,
    bias: Annotated[str, typer.Option(help="metadynamics, none, or a bias .npz.")] = "metadynamics",
    count: Annotated[int, typer.Option(help="New labels.")] = 50,
    stderr: Annotated[float, typer.Option(help="Standard error at which a label is done, kJ/mol/nm.")] = 6.0,
    max_ps: Annotated[float, typer.Option(help="Most time averaged over per label, ps.")] = 100.0,
    share: Annotated[float, typer.Option(help="Most uncertain share of the frames that labels are taken from.")] = 0.1,
    discard_ps: Annotated[float, typer.Option(help="Start of the run that is left out, ps.")] = 20.0,
    box: Annotated[Path | None, typer.Option(help="Run in explicit water whose box is taken.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the labels. [default: by their number]")] = None,
    block_ps: Annotated[float, typer.Option(help="Length of the blocks of time that are split, ps.")] = 100.0,
    held_out: Annotated[float, typer.Option(help="Share for early stopping; as many again for the test.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Root seed of run and labels.")] = 1,
    platform: Annotated[str, typer.Option(help="Platform of the labels: auto, CPU, CUDA, OpenCL, HIP.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads per label process; 0: all.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Labels at the same time.")] = 1,
) -> None:
    """One round of active learning: run, label what the committee is unsure of, train again.

    The same command continues after a kill. Writes -o/forcefields/NAME-1 ..., verified; feed them to the next round.
    """
    from mlsim.cli.force_data.label_options import LabelBar
    from mlsim.cli.progress import MdProgress
    from mlsim.cli.training.train import print_mean_force
    from mlsim.errors import InputError
    from mlsim.md.engines.held_solute import UNITS_PER_LABEL
    from mlsim.md.settings import LabelSettings, RunSettings
    from mlsim.md.signals import listening
    from mlsim.workflow.force_data.label import finished
    from mlsim.workflow.training import refine as work

    if not name or Path(name).name != name or name.startswith("."):
        raise InputError(f"--name: expected a plain name without slashes, got '{name}'")
    run = RunSettings.parse({"system": system, "ns": ns, "bias": bias, "seed": seed}, "command line")
    wanted: dict[str, Any] = {"system": system, "count": count, "stderr_kJ_mol_nm": stderr, "max_ps": max_ps}
    labels = LabelSettings.parse(
        {**wanted, "min_ps": min(20.0, max_ps), "seed": seed, "platform": platform, "threads": threads}, "command line"
    )
    chosen = {"uncertain_share": share, "discard_ps": discard_ps, "held_out": held_out}
    settings = work.RefineSettings.parse(chosen, "command line")
    with (
        listening() as stop,
        MdProgress(run.total_steps, 0, run.timestep_fs) as running,
        LabelBar(count, finished(labels, output / "labels"), UNITS_PER_LABEL) as labelling,
    ):
        path = work.collect(
            forcefield,
            run,
            labels,
            settings,
            output,
            box=box,
            processes=processes,
            progress=(running, labelling),
            stop=stop,
        )
    if path is None:
        print(f"stopped ({stop.reason}); the same command continues")
        sys.exit(stop.exit_code)
    training: dict[str, Any] = {"block_ps": block_ps} | ({} if epochs is None else {"epochs": epochs})
    for member in work.retrain(forcefield, data or (), training, settings, output, name, system):
        print(f"{member.artifact.name}: verified, in {member.artifact.directory}")
        if member.errors is not None:
            print_mean_force(member.errors)
