"""``mlsim fes`` and ``mlsim compare``: free-energy surfaces of runs, and how far they are from a reference.

A RUN is a run directory, a directory of ``mlsim reference`` (its seeds are pooled), a file of force data (``.h5``), a
saved surface (``.npz``, or a directory with ``surface.npz``), or a directory with several (``surface-*.npz``, those
over the asked CVs are pooled). What is pooled must be of one molecule, potential and temperature, every run once.
Both verbs print their result; with ``-o`` they also write it as text, JSON, figure and reusable surfaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mlsim.cli.options import Given, generated
from mlsim.workflow.analysis.analysis_settings import AnalysisSettings, CompareSettings
from mlsim.workflow.requests import COMMAND_LINE

_OUTPUT = typer.Option("--output", "-o", help="Directory for the results.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("fes", cls=CvCommand)(fes)
    app.command("compare", cls=CvCommand)(compare)


class CvCommand(TyperCommand):
    """A command whose ``--cv`` takes several values: ``--cv phi psi`` is read as ``--cv phi --cv psi``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spread the values of ``--cv`` before the usual parsing."""
        return super().parse_args(ctx, spread_cv(args))


def spread_cv(args: Sequence[str]) -> list[str]:
    """``--cv phi psi RUN`` -> ``--cv phi --cv psi RUN``: a further value is one that names a CV and no file."""
    from mlsim.workflow.analysis.free_energies import names_one

    result: list[str] = []
    after = 0  # values seen since --cv, 0 outside
    for arg in args:
        if after >= 2 and names_one(arg) and not Path(arg).exists():
            result += ["--cv", arg]
            continue
        after = 1 if arg == "--cv" else (2 if after == 1 else 0)
        result.append(arg)
    return result


@generated(AnalysisSettings, short={"temperature_K": "--temperature"})
def fes(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run(s) of one ensemble; several are pooled.")],
    output: Annotated[Path | None, _OUTPUT] = None,
    *,
    given: Given,
) -> None:
    """Free-energy surface of a run, in kJ/mol and kcal/mol, and basin populations, with intervals where they hold."""
    from mlsim.workflow.analysis import free_energies

    found = free_energies.fes(run, AnalysisSettings.parse(given, COMMAND_LINE))
    for surface in found:
        typer.echo(free_energies.report.summary(surface))
        if output is not None:
            for path in free_energies.report.write_surface(surface, _place(output, surface.cv_names, len(found))):
                typer.echo(f"wrote {path}")


@generated(CompareSettings, short={"temperature_K": "--temperature"})
def compare(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Candidates, a row each: [NAME=]RUN[,RUN...] (pooled)."),
    ],
    reference: Annotated[list[str], typer.Option("--reference", help="Reference; repeat it for independent seeds.")],
    output: Annotated[Path | None, _OUTPUT] = None,
    *,
    given: Given,
) -> None:
    """Compare runs with a reference: FES RMSE (raw and noise-corrected), JS divergence, basins."""
    from mlsim.workflow.analysis import free_energies

    named = [_candidate(word) for word in run]
    settings = CompareSettings.parse(given, COMMAND_LINE)
    names = [name for name, _ in named]
    found = free_energies.compare([paths for _, paths in named], reference, settings, names=names)
    for comparison in found:
        typer.echo(free_energies.report.table(comparison))
        if output is not None:
            place = _place(output, comparison.reference.cv_names, len(found))
            for path in free_energies.report.write_comparison(comparison, place):
                typer.echo(f"wrote {path}")


def _candidate(word: str) -> tuple[str, list[str]]:
    """``[NAME=]RUN[,RUN...]`` -> name ('' without) and paths; a path that exists as it stands is one."""
    if Path(word).exists():
        return "", [word]
    name, equals, paths = word.partition("=")
    return (name, paths.split(",")) if equals else ("", word.split(","))


def _place(output: Path, cv_names: Sequence[str], count: int) -> Path:
    """Directory of one of several results: named by its CVs."""
    return output / "-".join(cv_names).replace(":", "").replace("/", "-") if count > 1 else output
