"""``mlsim exchange``: temperature replica exchange."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.requests import ExchangeSettings

if TYPE_CHECKING:
    from mlsim.workflow.simulation.exchange import ExchangeOutcome


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("exchange")(exchange)


def _ladder(text: str) -> tuple[float, ...]:
    from mlsim.workflow.simulation.exchange import temperature_ladder

    return temperature_ladder(text)


@generated(
    ExchangeSettings,
    leave=("system",),
    short={"temperatures_K": "--temperatures"},
    reading={"temperatures_K": _ladder},
)
def exchange(
    system: Annotated[
        str | None,
        typer.Argument(help="Shipped system, directory of mlsim build, PDB file, sequence, or a config .yaml."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the run.")] = None,
    *,
    given: Given,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of temperatures at the same time; does not change the result.")
    ] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o from its checkpoint.")] = False,
) -> None:
    """Replica exchange: mlsim exchange SYSTEM --solvent issnet --temperatures 300:450:8 --ns 1 -o DIR."""
    from mlsim.cli.progress import MdProgress
    from mlsim.errors import InputError
    from mlsim.workflow.requests import continued_settings, listening, new_settings
    from mlsim.workflow.simulation.exchange import done_steps, run_exchange

    if output is None:
        raise InputError("expected an output directory, got none; add -o DIR")
    if resume:
        settings = continued_settings(ExchangeSettings, output, given, system)
        done = done_steps(output, settings)
    else:
        settings = new_settings(ExchangeSettings, system, given)
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
