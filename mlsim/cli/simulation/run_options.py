"""``mlsim run``: molecular dynamics in any solvent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.requests import RunSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("run")(run)


@generated(RunSettings, leave=("system",), short={"temperature_K": "--temperature", "then_fixed_ns": "--then-fixed"})
def run(
    system: Annotated[
        str | None,
        typer.Argument(help="Shipped system, directory of mlsim build, PDB file, sequence, or a config .yaml."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the run.")] = None,
    *,
    given: Given,
    processes: Annotated[int, typer.Option(min=1, help="Number of replicas at the same time.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o from its checkpoint.")] = False,
) -> None:
    """Run molecular dynamics: mlsim run SYSTEM --solvent issnet --ns 1 -o DIR, or mlsim run config.yaml."""
    from mlsim.cli.progress import MdProgress
    from mlsim.errors import InputError
    from mlsim.workflow.requests import continued_settings, listening, new_settings
    from mlsim.workflow.simulation.second_stage import run_stages, steps_done, steps_of

    if output is None:
        raise InputError("expected an output directory, got none; add -o DIR")
    if resume:
        settings = continued_settings(RunSettings, output, given, system)
        done = steps_done(output, settings)
    else:
        settings = new_settings(RunSettings, system, given)
        done = 0
    with listening() as stop, MdProgress(steps_of(settings) * settings.replicas, done, settings.timestep_fs) as bar:
        outcomes = run_stages(
            settings, output, "resume" if resume else "new", processes=processes, progress=bar, stop=stop
        )
        speed = bar.ns_per_day
    _summary(outcomes, output, settings.timestep_fs, speed, stop.reason)
    if settings.bias == "metadynamics" and settings.then_fixed_ns is None and stop.reason is None:
        print(
            "frames under a growing bias reweight approximately (c(t)); for exact ones add a second stage under the "
            f"finished bias: mlsim run -o {output} --resume --then-fixed NS"
        )
    if stop.exit_code:
        sys.exit(stop.exit_code)


def _reasons(potential: dict[str, Any]) -> list[str]:
    """Why a force field was taken that the user did not name, and whether it did not ship, from a record."""
    terms = [potential, *potential.get("terms", [])]
    told = [str(term["why"]) for term in terms if term.get("why")]
    return told + [f"force field {term.get('forcefield')}: {term['origin']}" for term in terms if term.get("origin")]


def _summary(outcomes: tuple[Any, ...], output: Path, timestep_fs: float, speed: float, reason: str | None) -> None:
    from mlsim.records import RUN_FILE
    from mlsim.units import FS_PER_PS, PS_PER_NS

    outcomes = tuple(outcome for outcome in outcomes if (outcome.replica.directory / RUN_FILE).exists())
    if reason is not None and not (output / RUN_FILE).exists():
        print(f"stopped ({reason}) before the first step; the same command starts anew")
        return
    if reason is not None:
        print(f"stopped ({reason}); continue with: mlsim run -o {output} --resume")
    for outcome in outcomes:
        replica = outcome.replica
        length = outcome.step * timestep_fs / FS_PER_PS / PS_PER_NS
        temperature = replica.column("temperature_K")
        mean = f", mean temperature {temperature.mean():.1f} K" if len(temperature) else ""
        platform = (replica.record.platform or {})["name"]
        print(f"{replica.trajectory_path}: {replica.n_frames} frames, {length:g} ns on {platform}{mean}")
        for line in _reasons(replica.record.potential):
            print(line)
        if "guard" in replica.record.observers:
            print(_guard_line(replica.record.observers["guard"]))
    print(
        f"{speed:.0f} ns/day; topology in {outcomes[0].replica.directory / 'topology.pdb'}"
        if outcomes
        else "no replica done"
    )


def _guard_line(found: dict[str, Any]) -> str:
    where = found.get("region", "the trained region")
    worst = found["worst_distance"] / found["threshold"] if found["threshold"] else 0.0
    return (
        f"  {100 * found['fraction_outside']:.2f} % of {found['frames']} frames outside {where} "
        f"(0.1 % is usual), farthest {worst:.2f} of its limit at {found['worst_time_ps']:g} ps"
    )
