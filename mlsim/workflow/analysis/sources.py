"""What a user names as data, opened: directories of runs, force data, stored surfaces.

What: ``open_sources`` finds out what every path is; a :class:`Source` then gives weighted frames (``Samples``) or
surfaces over the wanted CVs. Runs that are named together are one ensemble and become one ``Samples``.

Why two steps: with ``phi:all`` the CVs follow from the molecule, so that the data must be opened before it is known
what is asked of them; and frames are read once for all residues.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from mlsim.analysis import observables, samples
from mlsim.analysis.samples import Samples
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError, MissingError
from mlsim.records import RUN_FILE
from mlsim.runs.trajectory import Run, members
from mlsim.workflow.analysis.analysis_settings import AnalysisSettings

#: CVs of one surface.
Group: TypeAlias = tuple[str, ...]


class Source(ABC):
    """Data of one ensemble."""

    @abstractmethod
    def groups(self, cv: Group) -> list[Group] | None:
        """``cv`` with ``all`` spread over the residues; None if these data do not say their residues."""

    @abstractmethod
    def read(self, groups: Sequence[Group], settings: AnalysisSettings) -> list[list[Samples | FreeEnergySurface]]:
        """Frames or surfaces, a list for each group of CVs."""


@dataclass(frozen=True)
class RunSource(Source):
    """Directories of runs, pooled."""

    runs: tuple[Run, ...]

    def groups(self, cv: Group) -> list[Group] | None:
        return observables.every_residue(self.runs[0].replicas[0].topology, cv)

    def read(self, groups: Sequence[Group], settings: AnalysisSettings) -> list[list[Samples | FreeEnergySurface]]:
        flat = distinct(groups)
        found = samples.from_runs(self.runs, flat, discard_ps=settings.discard_ps, temperature_K=settings.temperature_K)
        return shared_out(found, flat, groups)


@dataclass(frozen=True)
class FramesSource(Source):
    """Force data (``.h5``)."""

    path: Path

    def groups(self, cv: Group) -> list[Group] | None:
        return None if any(observables.parse(spec).selection == observables.ALL for spec in cv) else [cv]

    def read(self, groups: Sequence[Group], settings: AnalysisSettings) -> list[list[Samples | FreeEnergySurface]]:
        frames = ForceFrames.load(self.path)
        kelvin = _frames_temperature(frames, self.path, settings.temperature_K)
        flat = distinct(groups)
        found = samples.from_frames(
            frames, flat, discard_ps=settings.discard_ps, temperature_K=kelvin, label=self.path.stem
        )
        return shared_out(found, flat, groups)


@dataclass(frozen=True)
class SurfaceSource(Source):
    """Stored surfaces: a file, or those of a directory."""

    path: Path

    def groups(self, cv: Group) -> list[Group] | None:
        return None if any(observables.parse(spec).selection == observables.ALL for spec in cv) else [cv]

    def read(self, groups: Sequence[Group], settings: AnalysisSettings) -> list[list[Samples | FreeEnergySurface]]:
        stored = [FreeEnergySurface.load(path) for path in surface_files(self.path)]
        result: list[list[Samples | FreeEnergySurface]] = []
        for group in groups:
            fitting = [s for s in stored if observables.equivalent(s.cv_names, group)]
            if not fitting:
                known = ", ".join(sorted({" ".join(surface.cv_names) for surface in stored}))
                raise InputError(f"{self.path}: no surface over {' '.join(group)} (--cv); there are {known}")
            result.append([replace(s, cv_names=fitting[0].cv_names) for s in fitting])
        return result


def open_sources(paths: Sequence[str | Path]) -> list[Source]:
    """What stands behind each path; all runs together are one source.

    Raises
    ------
    MissingError
        If there is nothing to analyse at a path.
    InputError
        If a path holds several ensembles.
    """
    result: list[Source] = []
    runs: list[Run] = []
    for path in map(Path, paths):
        seeds = members(path, "seed") if path.is_dir() else []
        if (path / "state-00").is_dir():
            states = ", ".join(sorted(p.name for p in path.glob("state-*"))[:3])
            raise InputError(f"{path}: a replica exchange has one ensemble per state; give one of them ({states} ...)")
        if (path / RUN_FILE).is_file() or seeds:
            runs += [Run.open(directory) for directory in seeds or [path]]
        elif surface_files(path):
            result.append(SurfaceSource(path))
        elif path.suffix in (".h5", ".hdf5") and path.is_file():
            result.append(FramesSource(path))
        else:
            raise MissingError(
                f"{path}: nothing to analyse there; expected a directory of mlsim run or mlsim reference, force data "
                "(.h5) or a surface (.npz, or a directory with surface.npz)"
            )
    return [*result, RunSource(tuple(runs))] if runs else result


def surface_files(path: Path) -> list[Path]:
    """Stored surfaces at a path: the file, ``surface.npz`` or all ``surface-*.npz`` of a directory, of each residue."""
    if path.suffix == ".npz" and path.is_file():
        return [path]
    if (path / "surface.npz").is_file():
        return [path / "surface.npz"]
    found = sorted(path.glob("surface-*.npz")) if path.is_dir() else []
    return found or (sorted(path.glob("*/surface.npz")) if path.is_dir() else [])


def groups_of(sources: Sequence[Source], cv: Group) -> list[Group]:
    """The CVs of every surface that is asked for.

    Raises
    ------
    InputError
        If ``all`` is asked of data that do not say their residues.
    """
    for source in sources:
        found = source.groups(cv)
        if found is not None:
            return found
    raise InputError(f"--cv {' '.join(cv)}: no data here say which residues there are; give the residues by number")


def distinct(groups: Sequence[Group]) -> list[str]:
    """Every CV of all groups once."""
    return list(dict.fromkeys(spec for group in groups for spec in group))


def shared_out(
    found: Samples, asked: Sequence[str], groups: Sequence[Group]
) -> list[list[Samples | FreeEnergySurface]]:
    """Frames with the columns ``asked``, as one Samples for each group."""
    name = dict(zip(asked, found.cv_names, strict=True))
    for group in groups:
        if len({name[spec] for spec in group}) < len(group):
            raise InputError(f"--cv {' '.join(group)}: expected two different collective variables")
    return [[found.select([name[spec] for spec in group])] for group in groups]


def _frames_temperature(frames: ForceFrames, path: Path, temperature: float | None) -> float:
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
