"""Label many conformations: choose, solvate once, average each, put together. Any kill costs at most one label.

::

    DIR/label.yaml            settings        DIR/conformations.npz   the chosen conformations
        box/                  the water box   DIR/labels/00017.npz    one finished label each
        labels.h5             ForceFrames with covariances, of all finished labels

Processes take consecutive parts of a tour through the conformations, each with a Context of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.spread import on_circle, tour
from mlsim.errors import CheckpointError, InputError, MissingError, OccupiedError, UnphysicalError, WorkerError
from mlsim.files import make_directory, write_bytes, write_text
from mlsim.locks import claim
from mlsim.md.engines.held_solute import UNITS_PER_LABEL, HeldSolute, Label
from mlsim.md.gromacs.held_frame import WATERS, HeldInFrame, keep_waters
from mlsim.md.prepare import starting_molecule
from mlsim.md.settings import LabelSettings, RunSettings
from mlsim.md.signals import Clock, Progress, Stopped, StopRequest
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.records import RUN_FILE, Failure, RunRecord, SoluteNote, command_line, versions
from mlsim.starts import Layout, clear, standing
from mlsim.workflow.conformations import Conformations, choose, torsions
from mlsim.workflow.fan_out import fan_out
from mlsim.workflow.force_data.reference import named_at_begin

__all__ = ["UNITS_PER_LABEL", "LabelTask", "Labelled", "finished", "gather", "label", "labels_in", "prepare"]

SETTINGS, CHOSEN, BOX, LABELS, FRAMES = "label.yaml", "conformations.npz", "box", "labels", "labels.h5"
#: Begun when the settings are written, which is after the conformations; labels without them are refused.
LAYOUT = Layout(
    what="set of labels",
    record=SETTINGS,
    checkpoints=(SETTINGS, f"{LABELS}/*.npz"),
    own=(CHOSEN, LABELS, BOX, WATERS, RUN_FILE),
)
#: Least water between a conformation and its image, nm.
LEAST_GAP_NM = 0.9


#: Label of a number, or None if asked to stop; with progress, time limit and stop request.
Measure = Callable[[int, Progress | None, Clock], Label | None]


@dataclass(frozen=True)
class Labelled:
    """What a task did."""

    done: int
    wall_seconds: float
    platform: dict[str, Any]


@dataclass(frozen=True)
class LabelTask:
    """The labels ``numbers`` of a directory, picklable."""

    settings: LabelSettings
    directory: Path
    numbers: tuple[int, ...]
    deadline: float

    def __call__(self, progress: Progress | None, stop: StopRequest) -> Labelled:
        """Make them in this process."""
        began, done, clock = time.monotonic(), 0, Clock(self.deadline, stop)
        molecule = load_system(self.settings.system)
        chosen = Conformations.from_bytes((self.directory / CHOSEN).read_bytes())
        water = _box(molecule, chosen, self.settings, self.directory)
        measure, platform = self._labeller(water, chosen)
        for number in self.numbers:
            if stop.reason is not None:
                break
            try:
                label = measure(number, progress, clock)
            except UnphysicalError as error:
                raise UnphysicalError(f"label {number}: {error}; try a smaller timestep_fs") from error
            if label is None:
                break
            label.save(_path(self.directory, number))
            done += 1
        return Labelled(done, time.monotonic() - began, platform)

    def _labeller(self, water: Molecule, chosen: Conformations) -> tuple[Measure, dict[str, Any]]:
        """What makes the label of a number, by the settings' engine, and the platform that it runs on."""
        if self.settings.engine == "gromacs":
            place = self.directory / f"scratch-{self.numbers[0]:05d}"
            frames = HeldInFrame(water, self.settings, self.directory / WATERS, place)
            return frames.measure, frames.platform
        held = HeldSolute(water, self.settings, str(self.numbers[0]))
        held.settle()
        return lambda number, *rest: held.measure(chosen.positions[number], *rest), held.platform.describe()


def prepare(
    settings: LabelSettings, molecule: Molecule, conformations: Conformations, directory: Path, run: Path | None = None
) -> tuple[int, ...]:
    """Choose the conformations of a new directory, or check those of an old one; returns the labels to be made.

    ``run`` is the GROMACS run that the conformations are of, where the engine is GROMACS.

    Raises
    ------
    OccupiedError
        If the directory holds something else.
    CheckpointError
        If it holds labels made under other settings.
    """
    now = standing(directory, LAYOUT)
    if now.begun:
        if not (directory / CHOSEN).is_file():
            raise MissingError(f"{directory}: {CHOSEN} is missing; restore it, or choose another -o")
        saved = LabelSettings.from_yaml(directory / SETTINGS)
        settings = settings.model_copy(update={"system": named_at_begin(settings.system, molecule, directory)})
        if saved.identity() != settings.identity():
            changed = [n for n, v in saved.model_dump().items() if v != getattr(settings, n)]
            raise CheckpointError(
                f"{directory}: holds labels made with other {', '.join(changed)}; repeat the settings in "
                f"{SETTINGS} or choose another -o (training joins several label files)"
            )
    else:
        if now.foreign:
            raise OccupiedError(f"{directory}: not empty and no labels; choose another -o")
        clear(directory, LAYOUT)
        picked = conformations.take(choose(conformations, molecule, settings.count, settings.seed))
        ordered = picked.take(tour(on_circle(torsions(picked.positions, molecule)[1])))
        if settings.engine == "gromacs":
            exact = keep_waters(run or Path(), molecule, np.asarray(ordered.time_ps, float), directory / WATERS)
            ordered = replace(ordered, positions=exact)
        make_directory(directory / LABELS)
        write_bytes(directory / CHOSEN, ordered.to_bytes())
        write_text(directory / SETTINGS, settings.to_yaml())
    return tuple(k for k in range(settings.count) if not _path(directory, k).is_file())


def label(
    settings: LabelSettings,
    conformations: Conformations,
    directory: Path,
    *,
    box: Path | None = None,
    processes: int = 1,
    max_hours: float | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Path | None:
    """Make the labels that are missing in ``directory`` and put all finished ones into ``labels.h5``.

    Parameters
    ----------
    conformations : Conformations
        To choose ``settings.count`` from; looked at only the first time.
    box : Path, optional
        Run in explicit water whose equilibrated box is taken; default: one is made, which takes minutes. With engine
        gromacs: the run that the conformations are of.
    processes : int
        Parts of the tour worked on at the same time.

    Returns
    -------
    Path or None
        ``labels.h5``; None if no label is finished yet.

    Raises
    ------
    OccupiedError, CheckpointError, UnphysicalError, StorageError
    """
    stop = stop or StopRequest()
    if settings.engine == "gromacs" and settings.stderr_kJ_mol_nm is not None:
        raise InputError("labels by GROMACS have a fixed length; use --stderr none and --max-ps")
    deadline = Clock.of_hours(max_hours, stop).deadline
    molecule = load_system(settings.system)
    with claim(directory):
        missing = prepare(settings, molecule, conformations, directory, box)
        if box is not None:
            _take_box(box, directory / BOX)
        if missing:
            chosen = Conformations.from_bytes((directory / CHOSEN).read_bytes())
            try:
                water = _box(molecule, chosen, settings, directory, stop)  # once, before the processes need it
            except Stopped:
                return gather(molecule, settings, directory)
            parts = [p for p in np.array_split(np.array(missing), max(1, processes)) if len(p)]
            tasks = [LabelTask(settings, directory, tuple(int(k) for k in p), deadline) for p in parts]
            record = _record(molecule, water, settings)
            _write(record, settings, directory)
            try:
                done = fan_out(tasks, processes, progress, stop)
            except (UnphysicalError, WorkerError) as error:
                failure = Failure(message=str(error), step=_spent(settings, directory)[0])
                _write(record.model_copy(update={"status": "failed", "failure": failure}), settings, directory)
                raise
            complete = finished(settings, directory) == settings.count
            ending = {"status": "complete" if complete else "stopped", "reason": None if complete else stop.reason}
            _write(
                record.model_copy(update={**ending, "platform": done[0].platform if done else None}),
                settings,
                directory,
            )
            for scratch in directory.glob("scratch-*"):
                shutil.rmtree(scratch, ignore_errors=True)
        return gather(molecule, settings, directory)


def _record(molecule: Molecule, water: Molecule, settings: LabelSettings) -> RunRecord:
    n = molecule.n_atoms
    return RunRecord(
        engine="held",
        status="running",
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        molecule=SoluteNote(name=molecule.name, digest=molecule.digest, solute_atoms=n, atoms=water.n_atoms),
        potential=ExplicitWater(settings.padding_nm).describe(),
        identity=settings.identity(),
        versions=versions(),
        command=command_line(),
    )


def _write(record: RunRecord, settings: LabelSettings, directory: Path) -> None:
    step, seconds = _spent(settings, directory)
    record.model_copy(update={"step": step, "wall_seconds": round(seconds, 3)}).write(directory)


def _spent(settings: LabelSettings, directory: Path) -> tuple[int, float]:
    """Integration steps and wall time of all finished labels, s."""
    done = [Label.load(path) for k in range(settings.count) if (path := _path(directory, k)).is_file()]
    steps = sum(round((one.sampled_ps + one.moved_ps) / settings.timestep_ps) for one in done)
    return steps, sum(one.wall_seconds for one in done)


def gather(molecule: Molecule, settings: LabelSettings, directory: Path) -> Path | None:
    """Write ``labels.h5`` from the finished labels; None if there is none."""
    numbers = [k for k in range(settings.count) if _path(directory, k).is_file()]
    if not numbers:
        return None
    found = [Label.load(_path(directory, k)) for k in numbers]
    chosen = Conformations.from_bytes((directory / CHOSEN).read_bytes()).take(np.array(numbers))
    if not np.allclose(chosen.positions, [one.positions for one in found], atol=1e-6):
        raise InputError(f"{directory}: labels and {CHOSEN} do not belong together; start again elsewhere")
    names, angles = torsions(chosen.positions, molecule)
    covariance = np.array([one.covariance for one in found], dtype=np.float32)
    n = molecule.n_atoms
    frames = ForceFrames(
        positions=chosen.positions.astype(np.float32),
        forces=np.array([one.forces for one in found], dtype=np.float32),
        cvs=angles,
        cv_names=names,
        bias=np.zeros(len(found)),
        run=chosen.run,
        time_ps=chosen.time_ps,
        atom_types=molecule.atom_types,
        charges=molecule.charges,
        elements=molecule.elements,
        molecule_digest=molecule.digest,
        covariance=covariance,
        stderr=np.sqrt(np.einsum("fii->fi", covariance)).reshape(len(found), n, 3),
        provenance={
            "kind": "frozen-solute mean forces",
            "settings": settings.model_dump(mode="json"),
            "conformations": chosen.source,
            "sampled_ps": [round(one.sampled_ps, 3) for one in found],
            "inefficiency": [round(one.inefficiency, 3) for one in found],
            "moved_ps": round(sum(one.moved_ps for one in found), 3),
            "wall_seconds": round(sum(one.wall_seconds for one in found), 1),
            "versions": versions(),
        },
    )
    return frames.save(directory / FRAMES)


def _box(
    molecule: Molecule, chosen: Conformations, settings: LabelSettings, directory: Path, stop: StopRequest | None = None
) -> Molecule:
    """Water around the most extended conformation, equilibrated at 1 bar; made once."""
    arms = chosen.positions - chosen.positions.mean(axis=1, keepdims=True)
    largest = int(np.linalg.norm(arms, axis=2).max(axis=1).argmax())
    place = directory / BOX
    make_directory(place)
    run = RunSettings.parse(
        {
            "system": settings.system,
            "ns": 1.0,
            "solvent": "tip3p",
            "temperature_K": settings.temperature_K,
            "platform": settings.platform,
            "threads": settings.threads,
        }
    )
    start = molecule.with_positions(chosen.positions[largest])
    water = starting_molecule(start, ExplicitWater(settings.padding_nm), run, settings.seed, place, stop=stop)
    edge = float(np.diag(np.asarray(water.box)).min())
    width = 2 * float(np.linalg.norm(arms[largest], axis=1).max())
    if edge < width + LEAST_GAP_NM:
        raise InputError(
            f"{place}: the box is {edge:.2f} nm wide, the largest conformation {width:.2f} nm; use a larger box"
        )
    return water


def _take_box(source: Path, place: Path) -> None:
    """Copy the equilibrated box of a run, unless there is one."""
    if (place / "start.npz").is_file():
        return
    if not (source / "start.npz").is_file():
        raise MissingError(f"{source}: no box here (no start.npz); expected a run in explicit water")
    water = RunRecord.read(source).potential.get("name") if (source / RUN_FILE).is_file() else "tip3p"
    if water != "tip3p":
        raise InputError(f"{source}: a box of {water}; expected one of tip3p, which the labels are made in")
    for name in ("start.pdb", "start.npz"):  # the second one makes it a box
        write_bytes(place / name, (source / name).read_bytes())


def labels_in(path: Path) -> ForceFrames:
    """The labels of a file that :func:`label` wrote: forces [L, N, 3] (kJ/mol/nm) with their standard errors."""
    return ForceFrames.load(path)


def finished(settings: LabelSettings, directory: Path) -> int:
    """Labels that earlier calls finished (for progress bars)."""
    return sum(_path(directory, k).is_file() for k in range(settings.count))


def _path(directory: Path, number: int) -> Path:
    return directory / LABELS / f"{number:05d}.npz"
