"""``mlsim design``: peptides by soft Q-learning, from free rewards and from simulations of this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.design.design_settings import DesignSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("design")(design)


def _lines(path: str) -> tuple[str, ...]:
    from mlsim.errors import InputError, MissingError

    if not Path(path).is_file():
        raise MissingError(f"{path}: no such file; expected sequences, one a line")
    found = tuple(line.strip() for line in Path(path).read_text().splitlines() if line.strip())
    if not found:
        raise InputError(f"{path}: expected at least one sequence, got none")
    return found


def _interval(text: str, option: str = "--charge") -> tuple[float, float]:
    from mlsim.errors import InputError

    try:
        ends = [float(part) for part in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2):
        raise InputError(f"{option}: expected a number or LOW:HIGH, got '{text}'")
    return ends[0], ends[-1]


@generated(DesignSettings, leave=("shortest", "longest", "given", "simulate", "seed"), reading={"charge": _interval})
def design(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the search.")] = None,
    length: Annotated[str | None, typer.Option(help="Number of residues N, or LOW:HIGH. [default: 12]")] = None,
    *,
    given: Given,
    sequences: Annotated[
        Path | None, typer.Option("--given", help="Path of sequences to learn from, one a line.")
    ] = None,
    simulate: Annotated[str | None, typer.Option(help="Simulated property: rg, end-to-end (nm), helicity.")] = None,
    solvent: Annotated[str | None, typer.Option(help="Solvent of the simulations, no box. [default: gbn2]")] = None,
    ps: Annotated[float | None, typer.Option(help="Length of a simulation, ps. [default: 50]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Root seed; drawn and recorded if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in -o.")] = False,
) -> None:
    """Design peptides: mlsim design --letters AEKL --length 8 --charge 1:2 --moment 0.6 -o DIR."""
    from mlsim.errors import InputError
    from mlsim.files import write_text
    from mlsim.locks import claim
    from mlsim.seeds import fresh_seed
    from mlsim.starts import Start, require_start, take
    from mlsim.workflow.design.design_plan import LAYOUT, alphabet_of
    from mlsim.workflow.requests import COMMAND_LINE, saved_settings

    if output is None:
        raise InputError("expected an output directory, got none; add -o DIR")
    values: dict[str, Any] = dict(given)
    if seed is not None:
        values["seed"] = seed
    if length is not None:
        low, high = _interval(length, "--length")
        values |= {"shortest": int(low), "longest": int(high)}
    if sequences is not None:
        values["given"] = _lines(str(sequences))
    physics = {key: value for key, value in {"property": simulate, "solvent": solvent, "ps": ps}.items() if value}
    if resume:
        saved = saved_settings(DesignSettings, output).model_dump()
        longer = {key: value for key, value in values.items() if key in ("calls", "steps", "count")}
        if len(longer) < len(values) or physics:
            raise InputError(
                "--resume: only --calls, --steps and --count may change; start another search for the rest"
            )
        plan = DesignSettings.parse({**saved, **longer}, COMMAND_LINE)
    else:
        if physics and simulate is None:
            raise InputError("--solvent and --ps belong to a simulated property; add --simulate rg, for example")
        root = fresh_seed() if seed is None else seed
        known = {**values, "seed": root} | ({"simulate": {**physics, "seed": root}} if physics else {})
        plan = DesignSettings.parse(known, COMMAND_LINE)
    start: Start = "resume" if resume else "new"
    require_start(output, LAYOUT, start)
    alphabet_of(plan).encode(plan.given)  # refused before anything is written
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
