"""One session: what every run has, whoever moves the atoms.

    lock -> (resume: load checkpoint, cut outputs back) -> until done: move, report; checkpoint now and then -> record

Clock, stop request, outputs, stability check, checkpoint, failure and record are here. An :class:`Engine` knows only
how atoms move: one molecule, copies of it in one Context, temperatures that exchange (:mod:`mlsim.md.engines`). A run
that was interrupted at any moment and resumed equals one that was not.

Writing order: the record when a run begins, then its first checkpoint; from there outputs first, then the checkpoint
that refers to their lengths, and the record at the end. A refused start or resume has rewritten nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.errors import MlsimError, UnphysicalError
from mlsim.files import storage, write_json, write_text
from mlsim.locks import Held, claim
from mlsim.md.reporter import LAST_GOOD, Reporter
from mlsim.md.settings import Recorded, formerly_named
from mlsim.md.signals import RESPONSE_SECONDS, Clock, Progress, Stopped, StopRequest
from mlsim.potentials.biases.grid_bias import GridBias
from mlsim.potentials.contract import Potential
from mlsim.records import Failure, RunRecord, digest_of_json
from mlsim.runs.restart import CONFIG, RUN, Checkpoint, begun, resumed
from mlsim.runs.streams import Stream, cut_all_back
from mlsim.runs.trajectory import Replica
from mlsim.starts import Start, clear, take

#: Settings that may differ between a run and its continuation.
FREE = {
    "ns",
    "then_fixed_ns",
    "max_hours",
    "checkpoint_minutes",
    "platform",
    "threads",
    "bridge",
    "replicas",
    "context",
    "bias",
    "guard",
}
Status = Literal["complete", "stopped"]


class Engine(Protocol):
    """Who moves the atoms of a session.

    Attributes
    ----------
    identity : str
        Digest of all that decides the trajectories.
    step : int
        Integration steps done.
    """

    identity: str
    step: int

    @property
    def reporters(self) -> Sequence[Reporter]:
        """One per trajectory."""

    def begin(self, stop: StopRequest) -> None:
        """Set up a new run at step 0; raises ``Stopped`` soon after a stop request.

        Reporters' checks know the start as soon as there is one, for a run that fails before its first report.
        """

    def resume(self, saved: Checkpoint) -> None:
        """Set up as a checkpoint says."""

    def outputs(self) -> Iterable[Stream]:
        """Open the outputs beside those of the reporters."""

    def advance(self, most: int, total: int) -> int:
        """Move by at most ``most`` steps (or to the next moment that can be checkpointed), not beyond ``total``.

        Reports on the way; returns the number of steps done.
        """

    def state(self) -> tuple[bytes, dict[str, NDArray[Any]]]:
        """For the checkpoint: OpenMM's own, and arrays."""

    def finish(self) -> None:
        """Write what is written once, at the end of a call."""

    def worst_atom(self) -> str | None:
        """After a failure: the atom that is not finite or feels the largest force, if that can be known."""

    def record(self) -> RunRecord:
        """What is run, with what."""

    def records(self) -> Iterable[tuple[Path, Mapping[str, Any]]]:
        """Directories that get a ``run.json``, the first one of the whole, with what it says of its own."""


@dataclass(frozen=True)
class Ending:
    """How a call ended: ``complete``, or ``stopped`` with a reason."""

    status: Status
    reason: str | None
    step: int
    wall_seconds: float


@dataclass(frozen=True)
class Outcome(Ending):
    """How a call to an engine ended, with the trajectory that it left."""

    replica: Replica

    @classmethod
    def of(cls, ending: Ending, directory: Path) -> Outcome:
        """The ending of the run in ``directory``."""
        return cls(ending.status, ending.reason, ending.step, ending.wall_seconds, Replica(directory))


def run_session(
    make: Callable[[Start], Engine],
    directory: Path,
    settings: Recorded,
    start: Start,
    progress: Progress | None,
    stop: StopRequest,
) -> Ending:
    """Hold ``directory``, make the engine, and run it to ``settings.total_steps``, a stop request or the time limit.

    What a start wrote is removed again if the run is refused or given up before its first step; a run that fails before
    it keeps its start and the failure.

    Parameters
    ----------
    make : callable
        The engine for a start that is new or resumed. ``resume`` becomes ``new`` where a start was killed before its
        first checkpoint (:mod:`mlsim.starts`).

    Raises
    ------
    OccupiedError
        If another process holds the directory, or a new start was asked for where there is a run.
    CheckpointError, MissingError
        Nothing to resume, or the checkpoint is corrupt, alone, or of another run.
    UnphysicalError
        NaN, runaway or energy jump; ``failure.json`` and ``last_good.pdb`` are written first.
    StorageError
        The disk refused a write.
    """
    began = time.monotonic()
    with claim(directory) as held:
        start = take(directory, RUN, start)
        try:
            session = Session(make(start), directory, settings, start, stop, held)
        except (MlsimError, Stopped) as error:
            if start == "new" and not isinstance(error, UnphysicalError) and not begun(directory):
                clear(directory, RUN)  # leave nothing half-written
            if isinstance(error, Stopped):
                return Ending("stopped", stop.reason, 0, time.monotonic() - began)
            raise
        try:
            return session.run(progress)
        finally:
            session.close()


class Session:
    """A run in ``directory``, which is held, set up and ready to move."""

    def __init__(
        self, engine: Engine, directory: Path, settings: Recorded, start: Start, stop: StopRequest, held: Held
    ) -> None:
        self.engine, self.directory, self.settings, self.stop, self.held = engine, directory, settings, stop, held
        saved = resumed(directory, start, engine.identity)
        self.wall_before = 0.0
        if saved is None:
            for reporter in engine.reporters:
                reporter.begin()
            try:
                engine.begin(stop)
            except UnphysicalError as error:
                self._fail(error)
        else:
            first, _ = next(iter(engine.records()))
            self.wall_before = RunRecord.read(first).wall_seconds
            engine.resume(saved)
            cut_all_back(directory, saved.streams)
        self._keep_settings()
        self._write("running", None, self.wall_before)
        for reporter in engine.reporters:
            reporter.open()
        with storage(directory):
            frames, logs = ([getattr(r, kind) for r in engine.reporters] for kind in ("frames", "log"))
            self.streams: list[Stream] = [*frames, *logs, *engine.outputs()]
        if saved is None:
            self.checkpoint()

    def close(self) -> None:
        """Release all files."""
        for stream in self.streams:
            stream.close()

    def run(self, progress: Progress | None) -> Ending:
        """Move to the end, or until the stop request or the time limit."""
        engine, settings, total, began = self.engine, self.settings, self.settings.total_steps, time.monotonic()
        clock = Clock.of_hours(settings.max_hours, self.stop)
        due = began + 60.0 * settings.checkpoint_minutes
        most, status = 16, "complete"
        while engine.step < total:
            if clock.is_over():
                status = "stopped"
                break
            now = time.monotonic()
            if now > due:
                self.checkpoint()
                due = time.monotonic() + 60.0 * settings.checkpoint_minutes
            try:
                done = engine.advance(most, total)
            except UnphysicalError as error:
                self._fail(error)
            spent = time.monotonic() - now
            most = int(np.clip(done * RESPONSE_SECONDS / max(spent, 1e-9), 1, 1_000_000))
            if progress is not None:
                progress.advance(done * len(engine.reporters))
        self.checkpoint()
        engine.finish()
        wall = self.wall_before + time.monotonic() - began
        reason = self.stop.reason if status == "stopped" else None
        self._write(status, reason, wall)
        return Ending(status, reason, engine.step, wall)  # type: ignore[arg-type]

    def checkpoint(self) -> None:
        """Write the outputs, then the checkpoint that refers to them."""
        self.held.require_there()
        with storage(self.directory):
            sizes = {str(stream.path.relative_to(self.directory)): stream.sync() for stream in self.streams}
        context, arrays = self.engine.state()
        Checkpoint(self.engine.step, context, sizes, self.engine.identity, arrays).save(self.directory)

    def _keep_settings(self) -> None:
        text = self.settings.to_yaml()
        for path, own in self.engine.records():
            target = path / CONFIG
            if "settings" not in own and not (target.is_file() and target.read_bytes() == text.encode()):
                write_text(target, text)

    def _write(self, status: str, reason: str | None, wall: float, failure: Failure | None = None) -> None:
        ending = {"status": status, "reason": reason, "step": self.engine.step, "failure": failure}
        whole = self.engine.record()
        for path, own in self.engine.records():
            whole.model_copy(update={**own, **ending, "wall_seconds": round(wall, 3)}).write(path)

    def _fail(self, error: UnphysicalError) -> None:
        engine = self.engine
        worst = engine.worst_atom()
        steps = [step for step in (reporter.save_last_good() for reporter in engine.reporters) if step is not None]
        last = min(steps, default=None)
        self._keep_settings()
        failure = Failure(message=str(error), step=engine.step, worst_atom=worst, last_good_step=last)
        write_json(self.directory / "failure.json", failure.model_dump(mode="json"))
        self._write("failed", None, self.wall_before, failure)
        if last is None:
            where = "no good state yet"
        else:
            places = [r.directory / LAST_GOOD for r in engine.reporters if (r.directory / LAST_GOOD).is_file()]
            others = f" and {len(places) - 1} beside it" if len(places) > 1 else ""
            where = f"last good state (step {last}) in {places[0]}{others}"
        raise UnphysicalError(
            f"{error}; worst atom {worst or 'unknown'}; {where}; try a smaller --timestep-fs"
        ) from error


def identity(settings: Recorded, molecule: Molecule, potential: Potential, bias: GridBias | None, seed: int) -> str:
    """Digest of all that decides a trajectory; only settings that differ from their defaults enter it."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    kept = formerly_named({k: v for k, v in values.items() if k not in FREE})
    elements = list(molecule.elements)
    return digest_of_json(
        [kept, molecule.n_atoms, elements, _placeless(potential.describe()), bias and bias.describe(), seed]
    )


def _placeless(described: dict[str, Any]) -> dict[str, Any]:
    """A description without where things came from: a force field may be moved, its digest stays."""
    own = {key: value for key, value in described.items() if key != "origin"}
    return own | ({"terms": [_placeless(term) for term in own["terms"]]} if "terms" in own else {})
