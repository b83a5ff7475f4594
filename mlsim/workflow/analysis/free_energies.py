"""``fes`` and ``compare`` in Python: what the command line does, with the same results.

    fes(["runs/a", "runs/b"], AnalysisSettings(cv=("phi", "psi")))     -> one surface for each group of CVs
    compare([["runs/a"], ["runs/b"]], ["ref/seed-0001"], settings)     -> one comparison for each group of CVs

Several paths are one ensemble (or one candidate) and are pooled. All raw data of one group share the same bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlsim.analysis import compare as comparing
from mlsim.analysis import report as report
from mlsim.analysis.compare import Comparison
from mlsim.analysis.observables import names_one as names_one
from mlsim.analysis.quantities import chosen
from mlsim.analysis.samples import Samples
from mlsim.analysis.surfaces import histogram, pool
from mlsim.analysis.surfaces.surface import FreeEnergySurface, SurfaceSettings
from mlsim.errors import InputError
from mlsim.shapes import Floats
from mlsim.workflow.analysis.analysis_settings import AnalysisSettings, CompareSettings
from mlsim.workflow.analysis.sources import groups_of, open_sources

_BINS = 24


def fes(paths: Sequence[str | Path], settings: AnalysisSettings | None = None) -> list[FreeEnergySurface]:
    """Free-energy surfaces of runs of one ensemble.

    Parameters
    ----------
    paths : sequence of path
        Runs, force data or stored surfaces; several are pooled.
    settings : AnalysisSettings or None
        CVs, bins, discarded start, temperature.

    Returns
    -------
    list of FreeEnergySurface
        One, or one for each residue where ``all`` is asked for.

    Raises
    ------
    MlsimError
        If there is nothing at a path, or the data are not of one ensemble.
    """
    settings = settings or AnalysisSettings()
    sources = open_sources(paths)
    groups = groups_of(sources, settings.cv)
    by_source = [source.read(groups, settings) for source in sources]
    result = []
    for number in range(len(groups)):
        surfaces = estimated([one for found in by_source for one in found[number]], settings.bins)
        result.append(pool.combine(surfaces, surfaces[0].label))
    return result


def compare(
    candidates: Sequence[Sequence[str | Path]],
    reference: Sequence[str | Path],
    settings: CompareSettings | None = None,
    *,
    names: Sequence[str] | None = None,
) -> list[Comparison]:
    """Compare candidates with a reference.

    Parameters
    ----------
    candidates : sequence of (sequence of path)
        Each a row of the table; its paths are pooled.
    reference : sequence of path
        Independent seeds of the reference.
    settings : CompareSettings or None
        CVs, bins, discarded starts, temperature, whether candidates may be of another molecule, further quantities.
    names : sequence of str or None
        A name for each candidate ('': by what it is of).

    Returns
    -------
    list of Comparison
        One, or one for each residue where ``all`` is asked for.

    Raises
    ------
    MlsimError
        As ``fes``, and if a candidate and the reference cannot be compared.
    """
    settings = settings or CompareSettings()
    names = [""] * len(candidates) if names is None else list(names)
    if len(names) != len(candidates):
        raise InputError(f"compare: expected a name for each of {len(candidates)} candidates, got {len(names)}")
    chosen(settings.quantity)  # refused before anything is read
    truth, others = open_sources(reference), [open_sources(paths) for paths in candidates]
    groups = groups_of([*truth, *(source for sources in others for source in sources)], settings.cv)
    cut = settings.discard_ps if settings.reference_discard_ps is None else settings.reference_discard_ps
    known = [source.read(groups, settings.model_copy(update={"discard_ps": cut})) for source in truth]
    found = [[source.read(groups, settings) for source in sources] for sources in others]
    result = []
    for number in range(len(groups)):
        parts = [[one for read in side for one in read[number]] for side in [known, *found]]
        stored = [s for part in parts for s in part if isinstance(s, FreeEnergySurface)]
        edges = stored[0].edges if stored and settings.bins is None else None
        surfaces = iter(estimated([one for part in parts for one in part], settings.bins, edges))
        whole = [pool.combine([next(surfaces) for _ in part], part[0].label) for part in parts]
        rows = _distinct(whole[1:], candidates, names)
        result.append(comparing.compare(whole[0], rows, molecules=settings.molecules, quantities=settings.quantity))
    return result


def estimated(
    parts: Sequence[Samples | FreeEnergySurface], bins: int | None, edges: tuple[Floats, ...] | None = None
) -> list[FreeEnergySurface]:
    """Estimate what is not a surface yet, all on the same bin edges."""
    settings = SurfaceSettings(bins=bins or _BINS)
    raw = [s for s in parts if not isinstance(s, FreeEnergySurface)]
    if raw and edges is None:
        edges = histogram.uniform_edges(np.concatenate([s.cv for s in raw]), raw[0].cv_names, settings.bins)
    return [s if isinstance(s, FreeEnergySurface) else s.surface(settings, edges) for s in parts]


def _distinct(
    surfaces: Sequence[FreeEnergySurface], candidates: Sequence[Sequence[str | Path]], names: Sequence[str]
) -> list[FreeEnergySurface]:
    """Surfaces with distinct names: one that occurs twice gets so much of its path added that all are told apart."""
    surfaces = [s.labelled(name) if name else s for s, name in zip(surfaces, names, strict=True)]
    labels = [surface.label for surface in surfaces]
    parts = [tuple(p for path in sorted(map(str, paths)) for p in Path(path).resolve().parts) for paths in candidates]
    result = []
    for k, surface in enumerate(surfaces):
        twins = [j for j, label in enumerate(labels) if label == surface.label and j != k]
        depth = next((d for d in range(1, 99) if all(parts[j][-d:] != parts[k][-d:] for j in twins)), None)
        if depth is None:
            given = ",".join(map(str, candidates[k]))
            raise InputError(f"compare: '{given}' is given twice; expected every candidate once")
        result.append(surface.labelled(f"{surface.label} ({'/'.join(parts[k][-depth:])})") if twins else surface)
    return result
