"""``mlsim run``: molecular dynamics in any solvent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("run")(run)


def run(
    system: Annotated[
        str | None,
        typer.Argument(help="Shipped system, directory of mlsim build, PDB file, sequence, or a config .yaml."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run directory.")] = None,
    solvent: Annotated[
        str | None,
        typer.Option(help="vacuum, hct, obc1, obc2, gbn, gbn2, tip3p, issnet, issnet:NAME, or a sum with '+'."),
    ] = None,
    ns: Annotated[float | None, typer.Option(help="Length per replica, ns.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature, K. [default: 300]")] = None,
    timestep_fs: Annotated[float | None, typer.Option(help="Time step, fs. [default: 4]")] = None,
    replicas: Annotated[int | None, typer.Option(help="Independent replicas. [default: 1]")] = None,
    context: Annotated[
        str | None, typer.Option(help="Replicas: separate Contexts, one shared by all, or auto. [default: auto]")
    ] = None,
    learned_every: Annotated[
        int | None, typer.Option(help="A learned solvent acts every n-th step, n times as strong. [default: 1]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Root seed; drawn and recorded if not given.")] = None,
    platform: Annotated[str | None, typer.Option(help="auto, Reference, CPU, CUDA, OpenCL, HIP.")] = None,
    bridge: Annotated[
        str | None, typer.Option(help="auto, torch (TorchForce), python (PythonForce), cuda (network on the GPU).")
    ] = None,
    report_ps: Annotated[float | None, typer.Option(help="Time between frames, ps. [default: 1]")] = None,
    bias: Annotated[
        str | None,
        typer.Option(
            help="none, metadynamics (best with --then-fixed), or the bias .npz of an earlier run (fixed, exact)."
        ),
    ] = None,
    then_fixed: Annotated[
        float | None,
        typer.Option(
            help="After metadynamics: length of a second stage under the finished bias, in DIR/fixed, ns; its frames "
            "reweight exactly."
        ),
    ] = None,
    format: Annotated[str | None, typer.Option(help="xtc or dcd.")] = None,
    guard: Annotated[
        str | None, typer.Option(help="Leaving the trained region: none, report, stop. [default: none]")
    ] = None,
    processes: Annotated[int, typer.Option(help="Replicas at the same time.")] = 1,
    max_hours: Annotated[float | None, typer.Option(help="Checkpoint and stop after this wall time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o from its checkpoint.")] = False,
) -> None:
    """Run molecular dynamics: mlsim run SYSTEM --solvent issnet --ns 1 -o DIR, or mlsim run config.yaml."""
    from mlsim.cli.progress import MdProgress
    from mlsim.errors import InputError, SettingsError
    from mlsim.md.settings import RunSettings
    from mlsim.md.signals import listening
    from mlsim.runs.restart import saved_settings
    from mlsim.settings import read_yaml
    from mlsim.workflow.simulation.second_stage import run_stages, steps_done, steps_of

    if output is None:
        raise InputError("expected an output directory, got none; add -o DIR")
    given: dict[str, Any] = {
        "solvent": solvent,
        "ns": ns,
        "temperature_K": temperature,
        "timestep_fs": timestep_fs,
        "replicas": replicas,
        "context": context,
        "learned_every": learned_every,
        "seed": seed,
        "platform": platform,
        "bridge": bridge,
        "report_ps": report_ps,
        "format": format,
        "guard": guard,
        "bias": bias,
        "then_fixed_ns": then_fixed,
        "max_hours": max_hours,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if resume:
        saved = saved_settings(RunSettings, output).model_dump()
        settings = RunSettings.parse({**saved, "max_hours": None, **given}, "command line")
        done = steps_done(output, settings)
    else:
        if system is None:
            raise InputError("expected a system or a config file, got none; e.g. mlsim run alanine-dipeptide -o DIR")
        config = system.endswith((".yaml", ".yml"))
        values = read_yaml(system) if config else {"system": system}
        if "ns" not in values and "ns" not in given:
            raise SettingsError("key 'ns' is missing; say how long to run, e.g. --ns 1")
        settings = RunSettings.parse({**values, **given}, system if config else "command line")
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
    """Why a force field was taken that the user did not name, from the record of a potential."""
    terms = [potential, *potential.get("terms", [])]
    return [str(term["why"]) for term in terms if term.get("why")]


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
    worst = found["worst_distance"] / found["threshold"] if found["threshold"] else 0.0
    return (
        f"  {100 * found['fraction_outside']:.2f} % of {found['frames']} frames outside the trained region "
        f"(0.1 % is usual), farthest {worst:.2f} of its limit at {found['worst_time_ps']:g} ps"
    )
