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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from openmm import Context, OpenMMException, Platform, System

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.files import storage
from mlsim.md import platforms
from mlsim.md.engines.ladder import Ladder
from mlsim.md.integrator import canonical, impulses_for, slow_group
from mlsim.md.prepare import minimise
from mlsim.md.reporter import Reporter
from mlsim.md.session import Ending, identity, run_session
from mlsim.md.settings import ExchangeSettings
from mlsim.md.signals import StopRequest
from mlsim.md.stability import Snapshot, StabilityCheck, broken, degrees_of_freedom
from mlsim.md.watch import Watch
from mlsim.potentials.contract import Potential
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.system import build_system
from mlsim.records import RunRecord, SoluteNote, command_line, versions
from mlsim.runs.restart import Checkpoint, begun
from mlsim.runs.streams import Stream, TableStream
from mlsim.runs.trajectory import Run
from mlsim.seeds import openmm_seed
from mlsim.starts import Start

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
class LocalMover:
    """Moves one state after another in this process."""

    system: System
    settings: ExchangeSettings
    platform: platforms.PlatformChoice
    impulses: Impulses | None = None

    @classmethod
    def of(
        cls,
        molecule: Molecule,
        potential: Potential,
        settings: ExchangeSettings,
        platform: platforms.PlatformChoice | None = None,
    ) -> LocalMover:
        """For a molecule without box, on ``platform``; by default as the settings say."""
        impulses = impulses_for(settings, potential)
        bonds, mass = settings.constraints, settings.hydrogen_mass_Da
        system = build_system(molecule, potential, bonds, mass, slow_group(settings), impulses)

        choice = platform or platforms.choose(settings.platform, settings.threads, system)
        canonical(settings.at(0), system, 1, impulses)  # what it refuses is refused before anything is written
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
                raise broken(error, f"{segment.temperature_K:g} K, step {done}") from None
            done = stop
            state = context.getState(getPositions=True, getVelocities=True, getEnergy=True)
            positions = np.array(state.getPositions(asNumpy=True)._value)
            energies = (float(state.getPotentialEnergy()._value), float(state.getKineticEnergy()._value))
            snapshots.append(Snapshot(stop, *energies, positions))
        return Moved(segment.state, np.array(state.getVelocities(asNumpy=True)._value), tuple(snapshots))


@dataclass(frozen=True)
class ExchangeOutcome(Ending):
    """How a call ended, with the ladder and one run per temperature (none if it was stopped before its first step)."""

    directory: Path
    ladder: Ladder
    runs: tuple[Run, ...]


def exchange(
    molecule: Molecule,
    potential: Potential,
    settings: ExchangeSettings,
    directory: Path,
    seed: int,
    start: Literal["new", "resume"] = "new",
    *,
    spread: Callable[[LocalMover], Mover] | None = None,
    watch: Watch | None = None,
) -> ExchangeOutcome:
    """Run (or continue) a replica exchange in ``directory`` until every state has ``settings.total_steps``.

    Parameters
    ----------
    spread : callable, optional
        Turns the mover of this process into another one, e.g. of several processes.
    watch : Watch, optional
        Progress and stop request; there are no observers.

    Raises
    ------
    OccupiedError, MissingError, CheckpointError, UnphysicalError, StorageError
        As :func:`mlsim.md.engines.single.simulate`.
    InputError
        If the potential puts the molecule into a box: exchanging a solvated molecule needs too many temperatures.
    """
    molecule = potential.prepare(molecule)
    if molecule.is_periodic:
        raise InputError(f"solvent '{potential.name}': replica exchange is for solvents without box")
    made: list[_Exchange] = []
    watch = watch or Watch()

    def make(start: Start) -> _Exchange:
        made.append(_Exchange(molecule, potential, settings, directory, seed, start, spread))
        return made[0]

    ending = run_session(make, directory, settings, start, watch.progress, watch.stop)
    ladder = made[0].ladder
    places = [state_directory(directory, k) for k in range(ladder.n_states)]
    runs = tuple(Run.open(place) for place in places) if begun(directory) else ()
    return ExchangeOutcome(ending.status, ending.reason, ending.step, ending.wall_seconds, directory, ladder, runs)


class _Exchange:
    """The states and the ladder."""

    def __init__(
        self,
        molecule: Molecule,
        potential: Potential,
        settings: ExchangeSettings,
        directory: Path,
        seed: int,
        start: str,
        spread: Callable[[LocalMover], Mover] | None,
    ) -> None:
        self.settings, self.directory, self.seed, self.molecule = settings, directory, seed, molecule
        self.potential, self.temperatures, self.step = potential, settings.temperatures_K, 0
        self.identity = identity(settings, molecule, potential, None, seed)
        resumes = start == "resume" and settings.platform == "auto"
        used = platforms.recorded(directory) if resumes else None
        self.local = LocalMover.of(molecule, potential, settings, used)
        self.mover: Mover = self.local if spread is None else spread(self.local)
        self.ladder = Ladder.start(len(self.temperatures))
        self.velocities: Vectors | None = None
        dof, limit = degrees_of_freedom(self.local.system), settings.runaway_temperature_K
        checks = [StabilityCheck(molecule.topology, dof, t, limit) for t in self.temperatures]
        self.reporters = tuple(
            Reporter(state_directory(directory, k), molecule, check, settings) for k, check in enumerate(checks)
        )

    def begin(self, stop: StopRequest) -> None:
        self.positions = np.repeat(self.molecule.positions[None], len(self.temperatures), axis=0)
        self._know_start()
        relaxed = minimise(self.local.system, self.molecule.positions, self.settings)
        self.positions = np.repeat(relaxed[None], len(self.temperatures), axis=0)
        self._know_start()
        steps = self.settings.equilibration_steps
        if steps == 0:
            return
        stop.heed()
        seeds = [openmm_seed(self.seed, f"equilibration of state {k}") for k in range(len(self.temperatures))]
        own = zip(self.temperatures, seeds, strict=True)
        work = [Segment(k, t, seed, relaxed, None, 0, (steps,)) for k, (t, seed) in enumerate(own)]
        moved = self.mover(work)
        stop.heed()
        self.positions = np.array([result.snapshots[-1].positions for result in moved])
        self.velocities = np.array([result.velocities for result in moved])

    def resume(self, saved: Checkpoint) -> None:
        self.step, self.ladder = saved.step, Ladder.restore(saved.arrays)
        self.positions = saved.arrays["positions"]
        self.velocities = saved.arrays.get("velocities")
        self._know_start()

    def _know_start(self) -> None:
        for reporter, positions in zip(self.reporters, self.positions, strict=True):
            reporter.check.begin_at(self.step, positions)

    def outputs(self) -> Iterable[Stream]:
        states = range(len(self.temperatures))
        columns = ["step", *(f"energy_{k}_kJ_mol" for k in states), *(f"walker_{k}" for k in states)]
        self.log = TableStream(self.directory / LOG, columns)
        return (self.log,)

    def advance(self, most: int, total: int) -> int:
        """One segment: a run can be continued between segments only, so ``most`` does not shorten it."""
        before, each = self.step, self.settings.exchange_steps
        self._segment(min((before // each + 1) * each, total))
        return self.step - before

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
        moved = self.mover(work)
        for reporter, result in zip(self.reporters, moved, strict=True):
            for snapshot in result.snapshots:
                if snapshot.step % every:
                    reporter.check.accept(snapshot)
                else:
                    reporter.report(snapshot, 0.0)
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

    def state(self) -> tuple[bytes, dict[str, NDArray[Any]]]:
        arrays: dict[str, NDArray[Any]] = {"positions": self.positions, **self.ladder.arrays()}
        if self.velocities is not None:
            arrays["velocities"] = self.velocities
        return b"", arrays

    def finish(self) -> None:
        """Nothing is written once."""

    def worst_atom(self) -> None:
        """The Context of a segment is gone, or is another process's."""

    def record(self) -> RunRecord:
        n, molecule = self.molecule.n_atoms, self.molecule
        return RunRecord(
            engine="exchange",
            status="running",
            seed=self.seed,
            copies=len(self.temperatures),
            settings=self.settings.model_dump(mode="json"),
            molecule=SoluteNote(name=molecule.name, digest=molecule.digest, solute_atoms=n, atoms=n),
            potential=self.potential.describe(),
            platform=self.local.platform.describe(),
            identity=self.identity,
            versions=versions(),
            command=command_line(),
        )

    def records(self) -> Iterable[tuple[Path, Mapping[str, Any]]]:
        yield self.directory, {"exchange": self.ladder.describe()}
        for k, reporter in enumerate(self.reporters):
            yield reporter.directory, {"settings": self.settings.at(k).model_dump(mode="json"), "state": k}


def state_directory(directory: Path, state: int) -> Path:
    """Where the run at temperature ``state`` lives."""
    return directory / f"state-{state:02d}"
