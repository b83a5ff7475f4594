"""simulate: one verb for reference and learned runs.

    minimise -> choose platform -> (resume: cut outputs back, load checkpoint) -> step, report, guard, checkpoint

Langevin middle integrator; every random number comes from the root seed. On the Reference platform an interrupted
and resumed run equals an uninterrupted one bit for bit.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from openmm import Context, Integrator, OpenMMException, Platform

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError, MissingError, MlsimError, OccupiedError, UnphysicalError
from mlsim.md import platforms
from mlsim.md.coordinates import CoordinateStream
from mlsim.md.integrator import canonical, impulses_for, slow_group
from mlsim.md.observers.contract import Observer, Summarised
from mlsim.md.prepare import minimise, starting_molecule
from mlsim.md.session import Outcome, identity
from mlsim.md.settings import Biased
from mlsim.md.signals import Progress, Stopped, StopRequest
from mlsim.md.stability import Snapshot, StabilityCheck, degrees_of_freedom
from mlsim.potentials import callback
from mlsim.potentials.contract import Potential
from mlsim.potentials.dihedral_bias import DihedralBias
from mlsim.potentials.system import build_system
from mlsim.runs import record
from mlsim.runs.restart import Checkpoint, locked, resumed, storage, write_atomically
from mlsim.runs.streams import Stream, TableStream, cut_all_back
from mlsim.runs.trajectory import COLUMNS, Replica
from mlsim.seeds import openmm_seed

#: Wall time between two looks at the stop request, s.
_RESPONSE_SECONDS = 0.5


def simulate(
    molecule: Molecule,
    potential: Potential,
    settings: Biased,
    directory: Path,
    seed: int,
    start: Literal["new", "resume"] = "new",
    bias: DihedralBias | None = None,
    observers: Sequence[Observer] = (),
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Outcome:
    """Run one replica to ``settings.total_steps`` in ``directory``.

    Parameters
    ----------
    molecule : Molecule
        The solute (solvent is added if ``potential`` needs it).
    seed : int
        Root seed of this replica.
    start : {"new", "resume"}
        ``resume`` continues from the checkpoint; a finished run is continued if ``settings.ns`` grew.
    bias : DihedralBias, optional
        Bias on the solute, in its own force group; logged apart from the potential energy.
    observers : sequence of Observer
        E.g. the recorder of force labels.

    Raises
    ------
    OccupiedError
        ``new`` in a directory that holds a run, or any start in one that is in use.
    CheckpointError, MissingError
        Nothing to resume, or the checkpoint is corrupt or of another run.
    UnphysicalError
        NaN, runaway or energy jump; ``failure.json`` and ``last_good.pdb`` are written first.
    StorageError
        The disk refused a write.
    """
    if start == "new" and (directory / record.FILE).exists():
        raise OccupiedError(f"{directory}: already holds a run; continue it with --resume or choose another -o")
    if start == "resume" and not (directory / record.FILE).exists():
        raise MissingError(f"{directory}: no run to resume here; start it without --resume")
    made, began, stop = not directory.exists(), time.monotonic(), stop or StopRequest()
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        try:
            engine = _Engine(molecule, potential, settings, directory, seed, start, bias, tuple(observers), stop)
        except (MlsimError, Stopped) as error:
            if made:
                shutil.rmtree(directory)  # refused before the first step: leave nothing half-written
            if isinstance(error, Stopped):
                return Outcome(Replica(directory), "stopped", stop.reason, 0, time.monotonic() - began)
            raise
        try:
            return engine.run(progress, stop)
        finally:
            engine.close()


class _Engine:
    """The Context of one replica and everything that looks at it."""

    def __init__(
        self,
        molecule: Molecule,
        potential: Potential,
        settings: Biased,
        directory: Path,
        seed: int,
        start: str,
        bias: DihedralBias | None,
        observers: tuple[Observer, ...],
        stop: StopRequest,
    ) -> None:
        self.settings, self.directory, self.bias = settings, directory, bias
        self.streams: dict[str, Stream] = {}
        self.molecule = starting_molecule(molecule, potential, settings, seed, directory, stop=stop)
        self.n_solute = len(self.molecule.solute)
        self.impulses = impulses_for(settings, potential)
        self.system = build_system(
            self.molecule,
            potential,
            settings.constraints,
            settings.hydrogen_mass_Da,
            slow_group(settings),
            self.impulses,
        )
        if bias is not None:
            bias.add_to(self.system)
        self.observers = (*((bias,) if bias is not None else ()), *observers)
        self.identity = identity(settings, self.molecule, potential, bias, seed)
        saved = resumed(directory, start, self.identity)
        self.integrator = self._integrator(seed)
        self.platform, positions = self._platform(start, seed)
        self.context = Context(
            self.system, self.integrator, Platform.getPlatformByName(self.platform.name), self.platform.properties
        )
        self.check = StabilityCheck(
            self.molecule.topology,
            degrees_of_freedom(self.system),
            settings.temperature_K,
            settings.runaway_temperature_K,
        )
        self.record: dict[str, Any] = {
            "status": "running",
            "seed": seed,
            "settings": settings.model_dump(mode="json"),
            "molecule": {
                "name": self.molecule.name,
                "digest": self.molecule.digest if not self.molecule.is_periodic else molecule.digest,
                "solute_atoms": self.n_solute,
                "atoms": self.molecule.n_atoms,
            },
            "potential": potential.describe(),
            "bias": None if bias is None else bias.describe(),
            "platform": self.platform.describe(),
            "identity": self.identity,
            "versions": record.versions(),
            "command": record.command_line(),
        }
        if saved is None:
            self.step, self.wall_before = 0, 0.0
            self.context.setPositions(positions)
            self.context.setVelocitiesToTemperature(settings.temperature_K, openmm_seed(seed, "velocities"))
            solute = self.molecule.solute_molecule()
            with storage(directory):
                solute.to_pdb(directory / "topology.pdb")
            write_atomically(directory / "config.yaml", settings.to_yaml())
        else:
            self.step = saved.step
            self.wall_before = float(record.read(directory).get("wall_seconds", 0.0))
            cut_all_back(directory, saved.streams)
            self._load(saved)
        self._open()
        if saved is None:
            self.checkpoint()
        record.write(directory, {**self.record, "step": self.step, "wall_seconds": self.wall_before})

    def _integrator(self, seed: int) -> Integrator:
        return canonical(self.settings, self.system, openmm_seed(seed, "integrator"), self.impulses)

    def _platform(self, start: str, seed: int) -> tuple[platforms.PlatformChoice, Any]:
        if start == "resume" and self.settings.platform == "auto":
            used = record.read(self.directory).get("platform", {})
            name = str(used.get("name", "Reference"))
            return platforms.PlatformChoice(name, dict(used.get("properties", {})), float("nan")), None
        positions = self.molecule.positions
        if start == "new" and not self.molecule.is_periodic:
            positions = minimise(self.system, positions, self.settings)
        choice = platforms.choose(
            self.settings.platform, self.settings.threads, self.system, positions, lambda: self._integrator(seed)
        )
        return choice, positions

    def _load(self, saved: Checkpoint) -> None:
        try:
            self.context.loadCheckpoint(saved.context)
        except OpenMMException as error:
            raise CheckpointError(
                f"{self.directory}: OpenMM cannot load the checkpoint ({error}); resume on the platform and "
                "OpenMM version recorded in run.json"
            ) from None
        for observer in self.observers:
            prefix = f"{observer.name}/"
            arrays = {k.removeprefix(prefix): v for k, v in saved.arrays.items() if k.startswith(prefix)}
            observer.restore(arrays, self.context)

    def _open(self) -> None:
        with storage(self.directory):
            frame_ps = self.settings.report_steps * self.settings.timestep_ps
            solute_topology = self.molecule.solute_molecule().topology
            path = self.directory / f"trajectory.{self.settings.format}"
            self.frames = CoordinateStream(path, solute_topology, frame_ps)
            self.log = TableStream(self.directory / "log.csv", COLUMNS)
            for stream in (self.frames, self.log, *(s for o in self.observers for s in o.open(self.directory))):
                self.streams[stream.path.name] = stream

    def close(self) -> None:
        """Release all files."""
        for stream in self.streams.values():
            stream.close()

    def run(self, progress: Progress | None, stop: StopRequest) -> Outcome:
        """Step to the end, or until ``stop`` or the time limit."""
        settings, total, began = self.settings, self.settings.total_steps, time.monotonic()
        due = began + 60.0 * settings.checkpoint_minutes
        deadline = np.inf if settings.max_hours is None else began + 3600.0 * settings.max_hours
        intervals = [(o.interval, o) for o in self.observers if o.interval > 0]
        chunk, status, reason = 16, "complete", None
        while self.step < total:
            now = time.monotonic()
            if now > deadline:
                stop.ask("max_hours", 0)
            if stop.reason is not None:
                status, reason = "stopped", stop.reason
                break
            if now > due:
                self.checkpoint()
                due = time.monotonic() + 60.0 * settings.checkpoint_minutes
            targets = [(self.step // i + 1) * i for i in (settings.report_steps, *(i for i, _ in intervals))]
            count = min(min(targets), total, self.step + chunk) - self.step
            self._advance(count)
            for interval, observer in intervals:
                if self.step % interval == 0:
                    with storage(self.directory):
                        observer.observe(self.step, self.context)
            if self.step % settings.report_steps == 0:
                self._report()
            spent = time.monotonic() - now
            chunk = int(np.clip(count * _RESPONSE_SECONDS / max(spent, 1e-9), 1, 1_000_000))
            if progress is not None:
                progress.advance(count)
        self.checkpoint()
        if self.bias is not None:
            self.bias.save(self.directory / "bias.npz")
        wall = self.wall_before + time.monotonic() - began
        ending: dict[str, Any] = {"status": status, "reason": reason, "step": self.step}
        ending["wall_seconds"] = round(wall, 3)
        ending |= {o.name: o.summary() for o in self.observers if isinstance(o, Summarised)}
        record.write(self.directory, {**self.record, **ending})
        return Outcome(Replica(self.directory), status, reason, self.step, wall)  # type: ignore[arg-type]

    def _advance(self, count: int) -> None:
        try:
            self.integrator.step(count)
        except OpenMMException as error:
            done = self.context.getStepCount()
            original = callback.take()
            if isinstance(original, KeyboardInterrupt):
                raise original from None
            if original is not None and not isinstance(original, ArithmeticError):
                raise original from None
            self._fail(f"step {done}: {original or error}", original or error)
        self.step += count

    def _report(self) -> None:
        state = self.context.getState(getPositions=True, getEnergy=True)
        bias = 0.0 if self.bias is None else self.bias.energy(self.context)
        snapshot = Snapshot(
            self.step,
            float(state.getPotentialEnergy()._value) - bias,
            float(state.getKineticEnergy()._value),
            np.array(state.getPositions(asNumpy=True)._value),
        )
        try:
            self.check.accept(snapshot)
        except UnphysicalError as error:
            self._fail(str(error), error)
        time_ps = self.step * self.settings.timestep_ps
        temperature = self.check.temperature(snapshot.kinetic)
        with storage(self.directory):
            self.frames.append(snapshot.positions[: self.n_solute])
            self.log.append((self.step, time_ps, snapshot.potential, snapshot.kinetic, temperature, bias))

    def _fail(self, message: str, cause: BaseException) -> None:
        worst = self.check.worst_atom(self.context)
        callback.take()
        kept = self.check.save_last_good(self.directory / "last_good.pdb")
        last = self.check.last_good.step if self.check.last_good is not None else None
        failure = {"message": message, "worst_atom": worst, "last_good_step": last}
        write_atomically(self.directory / "failure.json", json.dumps(failure, indent=2) + "\n")
        record.write(self.directory, {**self.record, "status": "failed", "step": self.step, **failure})
        where = f"last good state (step {last}) in {self.directory / 'last_good.pdb'}" if kept else "no good state yet"
        raise UnphysicalError(f"{message}; worst atom {worst}; {where}; try a smaller --timestep-fs") from cause

    def checkpoint(self) -> None:
        """Write streams, then the checkpoint that refers to them."""
        with storage(self.directory):
            sizes = {name: stream.sync() for name, stream in self.streams.items()}
        arrays = {f"{o.name}/{key}": array for o in self.observers for key, array in o.state().items()}
        Checkpoint(self.step, self.context.createCheckpoint(), sizes, self.identity, arrays).save(self.directory)
