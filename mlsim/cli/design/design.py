"""``mlsim design``: peptides by soft Q-learning, from free rewards and from simulations of this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlsim.workflow.design.design_plan import DesignSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("design")(design)


def design(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the search.")] = None,
    letters: Annotated[str | None, typer.Option(help="One-letter codes to use. [default: all 20]")] = None,
    length: Annotated[str | None, typer.Option(help="Number of residues N, or LOW:HIGH. [default: 12]")] = None,
    charge: Annotated[str | None, typer.Option(help="Wanted net charge Q, or LOW:HIGH.")] = None,
    moment: Annotated[float | None, typer.Option(help="Helical amphipathic moment that is enough, e.g. 0.8.")] = None,
    motif: Annotated[str | None, typer.Option(help="Letters that must stand side by side.")] = None,
    simulate: Annotated[str | None, typer.Option(help="Simulated property: rg, end-to-end (nm), helicity.")] = None,
    worst: Annotated[float | None, typer.Option(help="Value of the property that earns nothing.")] = None,
    best: Annotated[float | None, typer.Option(help="Value of the property that earns all.")] = None,
    solvent: Annotated[str | None, typer.Option(help="Solvent of the simulations, no box. [default: gbn2]")] = None,
    ps: Annotated[float | None, typer.Option(help="Length of a simulation, ps. [default: 50]")] = None,
    method: Annotated[str | None, typer.Option(help="multi, combined, single, vanilla, pg. [default: multi]")] = None,
    calls: Annotated[int | None, typer.Option(help="Sequences that may be evaluated. [default: 2000]")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps at most. [default: 1000]")] = None,
    given: Annotated[Path | None, typer.Option(help="Sequences to learn from, one a line.")] = None,
    count: Annotated[int | None, typer.Option(help="Designs to report. [default: 20]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Root seed; drawn and recorded if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in -o.")] = False,
) -> None:
    """Design peptides: mlsim design --letters AEKL --length 8 --charge 1:2 --moment 0.6 -o DIR."""
    from mlsim.errors import InputError
    from mlsim.files import write_text
    from mlsim.locks import claim
    from mlsim.seeds import fresh_seed
    from mlsim.starts import Start, require_start, take
    from mlsim.workflow.design.design_plan import LAYOUT, DesignSettings
    from mlsim.workflow.requests import saved_settings

    if output is None:
        raise InputError("expected an output directory, got none; add -o DIR")
    values: dict[str, Any] = {
        "letters": letters, "charge": _interval(charge, "--charge"), "moment": moment, "motif": motif, "worst": worst,
        "best": best, "method": method, "calls": calls, "steps": steps, "count": count, "seed": seed,
    }  # fmt: skip
    if length is not None:
        low, high = _interval(length, "--length") or (0, 0)
        values |= {"shortest": int(low), "longest": int(high)}
    if given is not None:
        values["given"] = _lines(given)
    physics = {key: value for key, value in {"property": simulate, "solvent": solvent, "ps": ps}.items() if value}
    values = {key: value for key, value in values.items() if value is not None}
    if resume:
        saved = saved_settings(DesignSettings, output).model_dump()
        longer = {key: value for key, value in values.items() if key in ("calls", "steps", "count")}
        if len(longer) < len(values) or physics:
            raise InputError(
                "--resume: only --calls, --steps and --count may change; start another search for the rest"
            )
        plan = DesignSettings.parse({**saved, **longer}, "command line")
    else:
        if physics and simulate is None:
            raise InputError("--solvent and --ps belong to a simulated property; add --simulate rg, for example")
        root = fresh_seed() if seed is None else seed
        known = {**values, "seed": root} | ({"simulate": {**physics, "seed": root}} if physics else {})
        plan = DesignSettings.parse(known, "command line")
    start: Start = "resume" if resume else "new"
    require_start(output, LAYOUT, start)
    plan.alphabet.encode(plan.given)  # refused before anything is written
    with claim(output):
        take(output, LAYOUT, start)
        write_text(output / "config.yaml", plan.to_yaml())
        _search(plan, output)


def _search(plan: DesignSettings, output: Path) -> None:
    from mlsim.progress_bar import Bar
    from mlsim.workflow.design.peptide_search import search
    from mlsim.workflow.requests import listening

    with listening() as stop, Bar(plan.calls, 0, "design", "seq") as bar:

        def show(step: int, steps: int, calls: int) -> None:
            bar.describe(f"step {step}/{steps}")
            bar.update(calls - bar.n)

        found = search(plan, output, progress=show, stop=stop)
    if found is None:
        print(f"stopped ({stop.reason}); continue with: mlsim design -o {output} --resume")
        sys.exit(stop.exit_code)
    for row in found.rows:
        print(f"{row.sequence:<20s} reward {row.reward:6.2f}  charge {row.charge_e:+d}  moment {row.moment:.2f}")
    print(
        f"{found.calls} sequences evaluated in {found.steps} steps; "
        f"designs differ at {found.distance:.0%} of their positions; table in {found.table}"
    )


def _interval(text: str | None, option: str) -> tuple[float, float] | None:
    from mlsim.errors import InputError

    if text is None:
        return None
    try:
        ends = [float(part) for part in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2):
        raise InputError(f"{option}: expected a number or LOW:HIGH, got '{text}'")
    return ends[0], ends[-1]


def _lines(path: Path) -> tuple[str, ...]:
    from mlsim.errors import InputError, MissingError

    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected sequences, one a line")
    found = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    if not found:
        raise InputError(f"{path}: expected at least one sequence, got none")
    return found
