"""Run a replica exchange: segments of dynamics at fixed temperature, exchanges between them.

    repeat:  every state k moves (x_k, v_k) for exchange_ps at T_k      (any order, any number of processes)
             neighbours exchange                                         (one place)

The end of a segment that starts at step s is a function of (x_k, v_k, root seed, k, s) alone: a new Context takes
positions and velocities, and a seed made of (root seed, k, s). So the whole state of a run is K positions and
velocities and the ladder; it resumes bit for bit on the Reference platform, and does not depend on how many processes
share the work.

Why one Context per temperature and segment, and not one for all temperatures with a temperature per degree of
freedom: OpenMM's Reference platform has one stream of noise per process, which Contexts side by side would share, and
one Context for all would need a CustomIntegrator (a step costs 2-5 times as much for a peptide, see
:mod:`mlsim.potentials.copies`) and a second System for the energy of each copy. Making a Context takes 0.25 ms for
alanine dipeptide, 2.5 % of a segment of 1 ps.

Output: ``state-00/`` ... one run directory per temperature, readable by :class:`mlsim.runs.trajectory.Run`;
``exchange.csv`` with the energies before and the walkers after each attempt; statistics in ``run.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from openmm import Context, OpenMMException, Platform, System

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError, MissingError, OccupiedError, UnphysicalError
from mlsim.md import platforms
from mlsim.md.coordinates import CoordinateStream
from mlsim.md.engines.ladder import Ladder
from mlsim.md.integrator import canonical, impulses_for, slow_group
from mlsim.md.prepare import minimise
from mlsim.md.session import identity
from mlsim.md.settings import ExchangeSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.md.stability import Snapshot, StabilityCheck, degrees_of_freedom
from mlsim.potentials import callback
from mlsim.potentials.contract import Potential
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.system import build_system
from mlsim.runs import record
from mlsim.runs.restart import Checkpoint, locked, resumed, storage, write_atomically
from mlsim.runs.streams import Stream, TableStream, cut_all_back
from mlsim.runs.trajectory import COLUMNS, Run
from mlsim.seeds import openmm_seed

Vectors = NDArray[np.float64]
LOG = "exchange.csv"


@dataclass(frozen=True, eq=False)
class Segment:
    """Work for one state: from (positions, velocities) [N, 3] (nm, nm/ps) through ``stops`` (steps, rising).

    ``velocities`` None asks for thermal ones.
    """

    state: int
    temperature_K: float
    seed: int
    positions: Vectors
    velocities: Vectors | None
    start: int
    stops: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Moved:
    """Where a segment ended, with its snapshots at the stops (the last one is the end)."""

    state: int
    velocities: Vectors
    snapshots: tuple[Snapshot, ...]


#: Moves all states through one segment; the order of the results is that of the segments.
Mover = Callable[[Sequence[Segment]], Sequence[Moved]]


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Moves one state after another in this process."""

    system: System
    settings: ExchangeSettings
    platform: platforms.PlatformChoice
    impulses: Impulses | None = None

    @classmethod
    def of(cls, molecule: Molecule, potential: Potential, settings: ExchangeSettings, platform: str) -> Dynamics:
        """For a molecule without box; ``platform`` as in the settings."""
        impulses = impulses_for(settings, potential)
        bonds, mass = settings.constraints, settings.hydrogen_mass_Da
        system = build_system(molecule, potential, bonds, mass, slow_group(settings), impulses)

        def integrator() -> Any:
            return canonical(settings.at(0), system, 1, impulses)

        choice = platforms.choose(platform, settings.threads, system, molecule.positions, integrator)
        return cls(system, settings, choice, impulses)

    def __call__(self, segments: Sequence[Segment]) -> list[Moved]:
        return [self.move(segment) for segment in segments]

    def move(self, segment: Segment) -> Moved:
        """Step one state through its segment.

        Raises
        ------
        UnphysicalError
            If the positions become NaN or the learned force field refuses them.
        """
        plain = self.settings.at(segment.state)
        integrator: Any = canonical(plain, self.system, openmm_seed(segment.seed, "integrator"), self.impulses)
        platform = Platform.getPlatformByName(self.platform.name)
        context = Context(self.system, integrator, platform, self.platform.properties)
        context.setPositions(segment.positions)
        context.setStepCount(segment.start)
        if segment.velocities is None:
            context.setVelocitiesToTemperature(segment.temperature_K, openmm_seed(segment.seed, "velocities"))
        else:
            context.setVelocities(segment.velocities)
        snapshots, done = [], segment.start
        for stop in segment.stops:
            try:
                integrator.step(stop - done)
            except OpenMMException as error:
                original = callback.take()
                if original is not None and not isinstance(original, ArithmeticError):
                    raise original from None
                raise UnphysicalError(f"{segment.temperature_K:g} K, step {done}: {original or error}") from None
            done = stop
            state = context.getState(getPositions=True, getVelocities=True, getEnergy=True)
            positions = np.array(state.getPositions(asNumpy=True)._value)
            energies = (float(state.getPotentialEnergy()._value), float(state.getKineticEnergy()._value))
            snapshots.append(Snapshot(stop, *energies, positions))
        return Moved(segment.state, np.array(state.getVelocities(asNumpy=True)._value), tuple(snapshots))


@dataclass(frozen=True)
class ExchangeOutcome:
    """How a run ended."""

    directory: Path
    ladder: Ladder
    status: Literal["complete", "stopped"]
    reason: str | None
    step: int
    wall_seconds: float
    runs: tuple[Run, ...] = field(default=())


def exchange(
    molecule: Molecule,
    potential: Potential,
    settings: ExchangeSettings,
    directory: Path,
    seed: int,
    start: Literal["new", "resume"] = "new",
    *,
    spread: Callable[[Dynamics], Mover] | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> ExchangeOutcome:
    """Run (or continue) a replica exchange in ``directory`` until every state has ``settings.total_steps``.

    Parameters
    ----------
    spread : callable, optional
        Turns the dynamics of this process into something that moves the states, e.g. in several processes.

    Raises
    ------
    OccupiedError, MissingError, CheckpointError, UnphysicalError, StorageError
        As :func:`mlsim.md.engines.single.simulate`.
    InputError
        If the potential puts the molecule into a box: exchanging a solvated molecule needs too many temperatures.
    """
    if start == "new" and (directory / record.FILE).exists():
        raise OccupiedError(f"{directory}: already holds a run; continue it with --resume or choose another -o")
    if start == "resume" and not (directory / record.FILE).exists():
        raise MissingError(f"{directory}: no run to resume here; start it without --resume")
    molecule = potential.prepare(molecule)
    if molecule.is_periodic:
        raise InputError(f"solvent '{potential.name}': replica exchange is for solvents without box")
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        engine = _Engine(molecule, potential, settings, directory, seed, start, spread)
        try:
            return engine.run(progress, stop or StopRequest())
        finally:
            engine.close()


class _Engine:
    """The states, the ladder, and the files."""

    def __init__(
        self,
        molecule: Molecule,
        potential: Potential,
        settings: ExchangeSettings,
        directory: Path,
        seed: int,
        start: str,
        spread: Callable[[Dynamics], Mover] | None,
    ) -> None:
        self.settings, self.directory, self.seed, self.molecule = settings, directory, seed, molecule
        self.temperatures = settings.temperatures_K
        self.identity = identity(settings, molecule, potential, None, seed)
        saved = resumed(directory, start, self.identity)
        used = record.read(directory)["platform"]["name"] if start == "resume" else settings.platform
        dynamics = Dynamics.of(molecule, potential, settings, str(used))
        self.mover: Mover = dynamics if spread is None else spread(dynamics)
        dof = degrees_of_freedom(dynamics.system)
        limit = settings.runaway_temperature_K
        self.checks = [StabilityCheck(molecule.topology, dof, t, limit) for t in self.temperatures]
        self.record: dict[str, Any] = {
            "status": "running",
            "seed": seed,
            "settings": settings.model_dump(mode="json"),
            "molecule": {"name": molecule.name, "digest": molecule.digest, "atoms": molecule.n_atoms},
            "potential": potential.describe(),
            "platform": dynamics.platform.describe(),
            "identity": self.identity,
            "versions": record.versions(),
            "command": record.command_line(),
        }
        n = len(self.temperatures)
        self.wall_before = 0.0
        if saved is None:
            self.step, self.ladder = 0, Ladder.start(n)
            relaxed = minimise(dynamics.system, molecule.positions, settings)
            self.positions = np.repeat(relaxed[None], n, axis=0)
            self.velocities: Vectors | None = None
            write_atomically(directory / "config.yaml", settings.to_yaml())
        else:
            self.step, self.ladder = saved.step, Ladder.restore(saved.arrays)
            self.positions = saved.arrays["positions"]
            self.velocities = saved.arrays.get("velocities")
            self.wall_before = float(record.read(directory).get("wall_seconds", 0.0))
            cut_all_back(directory, saved.streams)
        self._open()
        if saved is None:
            self.checkpoint()
        self._write("running", None, self.wall_before)

    def _open(self) -> None:
        frame_ps = self.settings.report_steps * self.settings.timestep_ps
        self.frames, self.logs = [], []
        with storage(self.directory):
            for k in range(len(self.temperatures)):
                place = state_directory(self.directory, k)
                place.mkdir(exist_ok=True)
                if not (place / "topology.pdb").exists():
                    self.molecule.to_pdb(place / "topology.pdb")
                path = place / f"trajectory.{self.settings.format}"
                self.frames.append(CoordinateStream(path, self.molecule.topology, frame_ps))
                self.logs.append(TableStream(place / "log.csv", COLUMNS))
            states = range(len(self.temperatures))
            columns = ["step", *(f"energy_{k}_kJ_mol" for k in states), *(f"walker_{k}" for k in states)]
            self.log = TableStream(self.directory / LOG, columns)
        self.streams: list[Stream] = [*self.frames, *self.logs, self.log]

    def close(self) -> None:
        """Release all files."""
        for stream in self.streams:
            stream.close()

    def run(self, progress: Progress | None, stop: StopRequest) -> ExchangeOutcome:
        """Segments and exchanges to the end, or until ``stop`` or the time limit."""
        settings, total, began = self.settings, self.settings.total_steps, time.monotonic()
        due = began + 60.0 * settings.checkpoint_minutes
        deadline = np.inf if settings.max_hours is None else began + 3600.0 * settings.max_hours
        status: Literal["complete", "stopped"] = "complete"
        while self.step < total:
            now = time.monotonic()
            if now > deadline:
                stop.ask("max_hours", 0)
            if stop.reason is not None:
                status = "stopped"
                break
            if now > due:
                self.checkpoint()
                due = now + 60.0 * settings.checkpoint_minutes
            before = self.step
            every = settings.exchange_steps
            self._segment(min((self.step // every + 1) * every, total))
            if progress is not None:
                progress.advance((self.step - before) * len(self.temperatures))
        self.checkpoint()
        wall = self.wall_before + time.monotonic() - began
        reason = stop.reason if status == "stopped" else None
        self._write(status, reason, wall)
        runs = tuple(Run.open(state_directory(self.directory, k)) for k in range(len(self.temperatures)))
        return ExchangeOutcome(self.directory, self.ladder, status, reason, self.step, wall, runs)

    def _segment(self, end: int) -> None:
        settings, every = self.settings, self.settings.report_steps
        stops = (*range((self.step // every + 1) * every, end, every), end)
        work = [
            Segment(
                k,
                temperature,
                openmm_seed(self.seed, f"state {k} step {self.step}"),
                self.positions[k],
                None if self.velocities is None else self.velocities[k],
                self.step,
                stops,
            )
            for k, temperature in enumerate(self.temperatures)
        ]
        try:
            moved = self.mover(work)
            for k, result in enumerate(moved):
                for snapshot in result.snapshots:
                    self._report(k, snapshot)
        except UnphysicalError as error:
            self._fail(error)
        energies = [result.snapshots[-1].potential for result in moved]
        positions = np.array([result.snapshots[-1].positions for result in moved])
        velocities = np.array([result.velocities for result in moved])
        self.step = end
        attempt, left = divmod(end, settings.exchange_steps)
        if left == 0:
            self.ladder, source = self.ladder.exchange(self.temperatures, energies, self.seed, attempt)
            scale = np.sqrt(np.array(self.temperatures) / np.array(self.temperatures)[source])
            positions, velocities = positions[source], velocities[source] * scale[:, None, None]
            with storage(self.directory):
                self.log.append((end, *energies, *self.ladder.walkers.tolist()))
        self.positions, self.velocities = positions, velocities

    def _report(self, state: int, snapshot: Snapshot) -> None:
        check, settings = self.checks[state], self.settings
        check.accept(snapshot)
        if snapshot.step % settings.report_steps:
            return
        time_ps, temperature = snapshot.step * settings.timestep_ps, check.temperature(snapshot.kinetic)
        with storage(self.directory):
            self.frames[state].append(snapshot.positions)
            self.logs[state].append((snapshot.step, time_ps, snapshot.potential, snapshot.kinetic, temperature, 0.0))

    def _fail(self, error: UnphysicalError) -> None:
        for k, check in enumerate(self.checks):
            check.save_last_good(state_directory(self.directory, k) / "last_good.pdb")
        failure = {"message": str(error), "step": self.step}
        write_atomically(self.directory / "failure.json", json.dumps(failure, indent=2) + "\n")
        self._write("failed", str(error), self.wall_before)
        raise UnphysicalError(
            f"{error}; last good states in {self.directory}/state-*/last_good.pdb; try a smaller --timestep-fs"
        ) from error

    def _write(self, status: str, reason: str | None, wall: float) -> None:
        ending = {"status": status, "reason": reason, "step": self.step, "wall_seconds": round(wall, 3)}
        record.write(self.directory, {**self.record, **ending, "exchange": self.ladder.describe()})
        for k in range(len(self.temperatures)):
            own = {**self.record, **ending, "settings": self.settings.at(k).model_dump(mode="json"), "state": k}
            record.write(state_directory(self.directory, k), own)

    def checkpoint(self) -> None:
        """Write streams, then the checkpoint that refers to them."""
        with storage(self.directory):
            sizes = {str(s.path.relative_to(self.directory)): s.sync() for s in self.streams}
        arrays: dict[str, NDArray[Any]] = {"positions": self.positions, **self.ladder.arrays()}
        if self.velocities is not None:
            arrays["velocities"] = self.velocities
        Checkpoint(self.step, b"", sizes, self.identity, arrays).save(self.directory)


def state_directory(directory: Path, state: int) -> Path:
    """Where the run at temperature ``state`` lives."""
    return directory / f"state-{state:02d}"
