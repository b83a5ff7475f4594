"""``mlsim fes`` and ``mlsim compare``: free-energy surfaces of runs, and how far they are from a reference.

A RUN is a run directory, a directory of ``mlsim reference`` (its seeds are pooled), a file of force data (``.h5``), a
saved surface (``.npz``, or a directory with ``surface.npz``), or a directory with several (``surface-*.npz``, those
over the asked CVs are pooled). What is pooled must be of one molecule, potential and temperature, every run once.
Both verbs print their result; with ``-o`` they also write it as text, JSON, figure and reusable surfaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from mlsim.analysis.samples import Samples
    from mlsim.analysis.surfaces.surface import FreeEnergySurface
    from mlsim.dataset.frames import ForceFrames

_CV = "Collective variable(s): phi psi chi1 (phi:3 for residue 3), distance:2.NZ,4.CD, end-to-end, rg."


class Molecules(str, Enum):
    """Whether candidates may be of another molecule than the reference."""

    same = "same"
    any = "any"


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
    """``--cv phi psi RUN`` -> ``--cv phi --cv psi RUN``: a further value is one that names a known CV."""
    from mlsim.analysis.observables import REGISTRY

    result: list[str] = []
    after = 0  # values seen since --cv, 0 outside
    for arg in args:
        if after >= 2 and arg.partition(":")[0] in REGISTRY:
            result += ["--cv", arg]
            continue
        after = 1 if arg == "--cv" else (2 if after == 1 else 0)
        result.append(arg)
    return result


def fes(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run(s) of one ensemble; several are pooled.")],
    cv: Annotated[list[str] | None, typer.Option("--cv", help=_CV + " Default: phi psi.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory for the results.")] = None,
    bins: Annotated[int, typer.Option(min=2, max=360, help="Bins per collective variable.")] = 24,
    discard_ps: Annotated[float, typer.Option(min=0.0, help="Start of every run to leave out, ps.")] = 0.0,
    temperature: Annotated[float | None, typer.Option(help="Temperature, K, if the data do not say.")] = None,
) -> None:
    """Free-energy surface of a run, in kJ/mol and kcal/mol, and basin populations, with intervals where they hold."""
    from mlsim.analysis import report
    from mlsim.analysis.surfaces import pool
    from mlsim.analysis.surfaces.surface import SurfaceSettings

    sources = _read(run, cv or ["phi", "psi"], discard_ps, temperature)
    surfaces = _surfaces(sources, SurfaceSettings(bins=bins))
    result = pool.combine(surfaces, surfaces[0].label)
    typer.echo(report.summary(result))
    if output is not None:
        for path in report.write_surface(result, output):
            typer.echo(f"wrote {path}")


def compare(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Candidates, one row of the table each.")],
    reference: Annotated[list[str], typer.Option("--reference", help="Reference; repeat it for independent seeds.")],
    cv: Annotated[list[str] | None, typer.Option("--cv", help=_CV + " Default: phi psi.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory for the results.")] = None,
    bins: Annotated[int | None, typer.Option(min=2, max=360, help="Bins per CV (default 24, or those stored).")] = None,
    discard_ps: Annotated[float, typer.Option(min=0.0, help="Start of every candidate to leave out, ps.")] = 0.0,
    reference_discard_ps: Annotated[
        float | None, typer.Option(min=0.0, help="The same for the reference (default: as for candidates), ps.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature, K, if the data do not say.")] = None,
    molecules: Annotated[
        Molecules, typer.Option(help="Candidates of the reference's molecule only (same), or of any.")
    ] = Molecules.same,
) -> None:
    """Compare runs with a reference: FES RMSE (raw and noise-corrected), JS divergence, basins."""
    from mlsim.analysis import compare as comparing
    from mlsim.analysis import report
    from mlsim.analysis.surfaces import pool
    from mlsim.analysis.surfaces.surface import FreeEnergySurface, SurfaceSettings

    cut = discard_ps if reference_discard_ps is None else reference_discard_ps
    known = _read(reference, cv or ["phi", "psi"], cut, temperature)
    others = [_read([path], cv or ["phi", "psi"], discard_ps, temperature) for path in run]
    flat = [source for sources in others for source in sources]
    stored = [s for s in [*known, *flat] if isinstance(s, FreeEnergySurface)]
    edges = stored[0].edges if stored and bins is None else None
    estimated = iter(_surfaces([*known, *flat], SurfaceSettings(bins=bins or 24), edges))
    truth, *candidates = [
        pool.combine([next(estimated) for _ in sources], sources[0].label) for sources in [known, *others]
    ]
    result = comparing.compare(truth, _distinct(candidates, run), molecules=molecules.value)
    typer.echo(report.table(result))
    if output is not None:
        for path in report.write_comparison(result, output):
            typer.echo(f"wrote {path}")


def _read(
    paths: Sequence[str], cv: Sequence[str], discard_ps: float, temperature: float | None
) -> list[Samples | FreeEnergySurface]:
    """Samples or stored surfaces behind ``paths``; run directories among them are pooled into one Samples."""
    from mlsim.analysis import observables, samples
    from mlsim.dataset.frames import ForceFrames
    from mlsim.errors import InputError, MissingError
    from mlsim.runs.trajectory import Run, members

    for spec in cv:
        observables.parse(spec)
    result: list[Samples | FreeEnergySurface] = []
    runs = []
    for path in map(Path, paths):
        seeds = members(path, "seed") if path.is_dir() else []
        if (path / "state-00").is_dir():
            states = ", ".join(sorted(p.name for p in path.glob("state-*"))[:3])
            raise InputError(f"{path}: a replica exchange has one ensemble per state; give one of them ({states} ...)")
        if (path / "run.json").is_file() or seeds:
            runs += [Run.open(directory) for directory in seeds or [path]]
        elif (path / "surface.npz").is_file():
            result.append(_stored(path / "surface.npz", cv))
        elif path.is_dir() and any(path.glob("surface-*.npz")):
            result += _stored_over(path, cv)
        elif path.suffix == ".npz" and path.is_file():
            result.append(_stored(path, cv))
        elif path.suffix in (".h5", ".hdf5") and path.is_file():
            frames = ForceFrames.load(path)
            kelvin = _frames_temperature(frames, path, temperature)
            result.append(samples.from_frames(frames, cv, discard_ps=discard_ps, temperature_K=kelvin, label=path.stem))
        else:
            raise MissingError(
                f"{path}: nothing to analyse there; expected a directory of mlsim run or mlsim reference, force data "
                "(.h5) or a surface (.npz, or a directory with surface.npz)"
            )
    if runs:
        result.append(samples.from_runs(runs, cv, discard_ps=discard_ps, temperature_K=temperature))
    return result


def _stored(path: Path, cv: Sequence[str]) -> FreeEnergySurface:
    from mlsim.analysis.surfaces.surface import FreeEnergySurface
    from mlsim.errors import InputError

    found = FreeEnergySurface.load(path)
    if found.cv_names != tuple(cv):
        raise InputError(f"{path}: it is a surface over {' '.join(found.cv_names)}; expected {' '.join(cv)} (--cv)")
    return found


def _stored_over(directory: Path, cv: Sequence[str]) -> list[FreeEnergySurface]:
    """All surfaces ``surface-*.npz`` of a directory that are over these CVs."""
    from mlsim.analysis.surfaces.surface import FreeEnergySurface
    from mlsim.errors import InputError

    found = [FreeEnergySurface.load(path) for path in sorted(directory.glob("surface-*.npz"))]
    fitting = [surface for surface in found if surface.cv_names == tuple(cv)]
    if not fitting:
        known = sorted({" ".join(surface.cv_names) for surface in found})
        raise InputError(f"{directory}: no surface over {' '.join(cv)} (--cv); there are {', '.join(known)}")
    return fitting


def _frames_temperature(frames: ForceFrames, path: Path, temperature: float | None) -> float:
    from mlsim.analysis import samples
    from mlsim.errors import InputError

    found = {
        float(source["settings"]["temperature_K"])
        for source in samples.records_of(frames)
        if "temperature_K" in (source.get("settings") or {})
    }
    if temperature is not None:
        found |= {temperature}
    if len(found) == 1:
        return found.pop()
    if not found:
        raise InputError(f"{path}: the force data do not say their temperature; give it with --temperature")
    kelvins = ", ".join(f"{kelvin:g} K" for kelvin in sorted(found))
    raise InputError(f"{path}: expected one temperature, got {kelvins} (stored in the data and given)")


def _surfaces(
    sources: Sequence[Samples | FreeEnergySurface], settings: Any, edges: tuple[Any, ...] | None = None
) -> list[FreeEnergySurface]:
    """Estimate what is not a surface yet, all on the same bin edges."""
    import numpy as np

    from mlsim.analysis.surfaces import histogram
    from mlsim.analysis.surfaces.surface import FreeEnergySurface

    raw = [s for s in sources if not isinstance(s, FreeEnergySurface)]
    if raw and edges is None:
        edges = histogram.uniform_edges(np.concatenate([s.cv for s in raw]), raw[0].cv_names, settings.bins)
    return [s if isinstance(s, FreeEnergySurface) else s.surface(settings, edges) for s in sources]


def _distinct(surfaces: Sequence[FreeEnergySurface], paths: Sequence[str]) -> list[FreeEnergySurface]:
    """Surfaces with distinct names: one that occurs twice gets so much of its path added that all are told apart."""
    from mlsim.errors import InputError

    labels = [surface.label for surface in surfaces]
    parts = [Path(path).resolve().parts for path in paths]
    result = []
    for k, surface in enumerate(surfaces):
        twins = [j for j, label in enumerate(labels) if label == surface.label and j != k]
        depth = next((d for d in range(1, 99) if all(parts[j][-d:] != parts[k][-d:] for j in twins)), None)
        if depth is None:
            raise InputError(f"compare: '{paths[k]}' is given twice; expected every candidate once")
        result.append(surface.labelled(f"{surface.label} ({'/'.join(parts[k][-depth:])})") if twins else surface)
    return result
