"""``mlsim exchange``: temperature replica exchange."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlsim.md.engines.replica_exchange import ExchangeOutcome


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("exchange")(exchange)


def exchange(
    system: Annotated[
        str | None,
        typer.Argument(help="Shipped system, directory of mlsim build, PDB file, sequence, or a config .yaml."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run directory.")] = None,
    solvent: Annotated[str | None, typer.Option(help="As for mlsim run; solvents without box only.")] = None,
    temperatures: Annotated[
        str | None, typer.Option(help="LOW:HIGH:COUNT in K (geometric), or a list T1,T2,...")
    ] = None,
    ns: Annotated[float | None, typer.Option(help="Length at each temperature, ns.")] = None,
    exchange_ps: Annotated[float | None, typer.Option(help="Time between attempts, ps. [default: 1]")] = None,
    timestep_fs: Annotated[float | None, typer.Option(help="Time step, fs. [default: 4]")] = None,
    seed: Annotated[int | None, typer.Option(help="Root seed; drawn and recorded if not given.")] = None,
    platform: Annotated[str | None, typer.Option(help="auto, Reference, CPU, CUDA, OpenCL, HIP.")] = None,
    bridge: Annotated[str | None, typer.Option(help="auto, torch (TorchForce), python (PythonForce).")] = None,
    report_ps: Annotated[float | None, typer.Option(help="Time between frames, ps. [default: 1]")] = None,
    format: Annotated[str | None, typer.Option(help="xtc or dcd.")] = None,
    processes: Annotated[int, typer.Option(help="Temperatures at the same time; does not change the result.")] = 1,
    max_hours: Annotated[float | None, typer.Option(help="Checkpoint and stop after this wall time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o from its checkpoint.")] = False,
) -> None:
    """Replica exchange: mlsim exchange SYSTEM --solvent issnet --temperatures 300:450:8 --ns 1 -o DIR."""
    from mlsim.cli.progress import MdProgress
    from mlsim.errors import InputError, SettingsError
    from mlsim.md.engines.ladder import temperature_ladder
    from mlsim.md.settings import ExchangeSettings
    from mlsim.md.signals import listening
    from mlsim.runs.restart import saved_settings
    from mlsim.settings import read_yaml
    from mlsim.workflow.simulation.exchange import done_steps, run_exchange

    if output is None:
        raise InputError("expected an output directory, got none; add -o DIR")
    given: dict[str, Any] = {
        "solvent": solvent,
        "temperatures_K": None if temperatures is None else temperature_ladder(temperatures),
        "ns": ns,
        "exchange_ps": exchange_ps,
        "timestep_fs": timestep_fs,
        "seed": seed,
        "platform": platform,
        "bridge": bridge,
        "report_ps": report_ps,
        "format": format,
        "max_hours": max_hours,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if resume:
        saved = saved_settings(ExchangeSettings, output).model_dump()
        settings = ExchangeSettings.parse({**saved, "max_hours": None, **given}, "command line")
        done = done_steps(output, settings)
    else:
        if system is None:
            raise InputError(
                "expected a system or a config file, got none; e.g. mlsim exchange alanine-dipeptide -o DIR"
            )
        config = system.endswith((".yaml", ".yml"))
        values = {**(read_yaml(system) if config else {"system": system}), **given}
        for key, option in (("ns", "--ns 1"), ("temperatures_K", "--temperatures 300:450:8")):
            if key not in values:
                raise SettingsError(f"key '{key}' is missing; e.g. {option}")
        settings = ExchangeSettings.parse(values, system if config else "command line")
        done = 0
    count = len(settings.temperatures_K)
    with listening() as stop, MdProgress(settings.total_steps * count, done, settings.timestep_fs) as bar:
        outcome = run_exchange(
            settings, output, "resume" if resume else "new", processes=processes, progress=bar, stop=stop
        )
        speed = bar.ns_per_day
    _summary(outcome, settings.temperatures_K, speed)
    if stop.exit_code:
        sys.exit(stop.exit_code)


def _summary(outcome: ExchangeOutcome, temperatures: tuple[float, ...], speed: float) -> None:
    if outcome.reason is not None:
        print(f"stopped ({outcome.reason}); continue with: mlsim exchange -o {outcome.directory} --resume")
    statistics = outcome.ladder.describe()
    for k, (temperature, run) in enumerate(zip(temperatures, outcome.runs, strict=True)):
        replica = run.replicas[0]
        measured = replica.column("temperature_K")
        mean = f", mean temperature {measured.mean():.1f} K" if len(measured) else ""
        up = statistics["acceptance"][k] if k + 1 < len(temperatures) else None
        accepted = "" if up is None else f", {up:.0%} exchanged with the next"
        print(f"{temperature:g} K: {replica.directory}, {replica.n_frames} frames{mean}{accepted}")
    print(f"{sum(statistics['round_trips'])} round trips; {speed:.0f} ns/day summed over temperatures")
