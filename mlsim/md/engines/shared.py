"""Replicas of a run in one Context: one step moves all of them, one call evaluates the learned force of all.

    build_replicas -> start each copy as a run alone would -> step, report copy by copy, guard, checkpoint

Each copy has its own directory, the same files as any run, and its own random stream
(:mod:`mlsim.md.engines.own_noise`), so its path follows from its seed and does not depend on how many move beside it.
The Context knows the energies of all copies together only; those of a copy come from a second Context of one molecule,
at reports. A fixed bias acts on each copy; one that grows has a history, and is for a Context of its own. A checkpoint
in the parent directory holds positions, velocities and streams of all copies; a resumed run equals an uninterrupted
one.

When it pays is measured, not assumed: see :mod:`mlsim.potentials.copies` for the CPU, where independent Contexts win.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from openmm import Context, OpenMMException, Platform

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError, UnphysicalError
from mlsim.md import platforms
from mlsim.md.coordinates import CoordinateStream
from mlsim.md.engines import own_noise
from mlsim.md.integrator import CONSTRAINT_TOLERANCE, impulses_for, langevin_middle
from mlsim.md.prepare import bias_for, minimise
from mlsim.md.session import Outcome, identity
from mlsim.md.settings import RunSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.md.stability import Snapshot, StabilityCheck, degrees_of_freedom
from mlsim.potentials import callback
from mlsim.potentials.contract import Potential
from mlsim.potentials.copies import split, tiled
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.system import build_system
from mlsim.runs import record
from mlsim.runs.restart import Checkpoint, locked, resumed, storage, write_atomically
from mlsim.runs.streams import Stream, TableStream, cut_all_back
from mlsim.runs.trajectory import COLUMNS, Replica
from mlsim.seeds import openmm_seed

Vectors = NDArray[np.float64]
#: Longest time between two looks at the stop request, s.
_RESPONSE_SECONDS = 0.5


def why_not(settings: RunSettings, molecule: Molecule) -> str | None:
    """Why replicas of such a run cannot share a Context, in a few words; None if they can."""
    if settings.bias == "metadynamics":
        return "a bias that grows acts on one molecule"
    if settings.guard != "none":
        return "the guard watches one molecule"
    if settings.mts_inner_steps > 1:
        return "mts_inner_steps has an integrator of its own"
    return "the molecule is in a box" if molecule.is_periodic else None


def require_copies(settings: RunSettings, molecule: Molecule, potential: Potential) -> None:
    """Refuse what cannot share a Context, before anything is written.

    Raises
    ------
    InputError
        With the reason.
    """
    reason = why_not(settings, molecule)
    if reason is not None:
        raise InputError(f"context 'shared': {reason}; use --context separate")
    build_system(molecule, potential, settings.constraints, settings.hydrogen_mass_Da, copies=2)


def simulate_together(
    molecule: Molecule,
    potential: Potential,
    settings: RunSettings,
    directory: Path,
    places: Sequence[Path],
    seeds: Sequence[int],
    start: Literal["new", "resume"] = "new",
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> tuple[Outcome, ...]:
    """Run one replica per seed to ``settings.total_steps``.

    Parameters
    ----------
    directory : Path
        Existing; for the checkpoint.
    places : sequence of Path
        Directory of each replica, below ``directory``.
    seeds : sequence of int
        Root seed of each replica.

    Raises
    ------
    InputError
        If a term of the potential cannot act on copies, or the settings ask for what copies cannot have.
    CheckpointError, MissingError, OccupiedError, UnphysicalError, StorageError
        As :func:`mlsim.md.engines.single.simulate`.
    """
    require_copies(settings, molecule, potential)
    with locked(directory):
        engine = _Copies(molecule, potential, settings, directory, tuple(places), tuple(seeds), start)
        try:
            return engine.run(progress, stop or StopRequest())
        finally:
            engine.close()


class _Copies:
    """The Context of all copies, that of one, and the files."""

    def __init__(
        self,
        molecule: Molecule,
        potential: Potential,
        settings: RunSettings,
        directory: Path,
        places: tuple[Path, ...],
        seeds: tuple[int, ...],
        start: str,
    ) -> None:
        self.settings, self.directory, self.places, self.molecule = settings, directory, places, molecule
        self.copies, self.streams = len(seeds), dict[str, Stream]()
        self.bias = bias_for(molecule, settings)
        alone = [identity(settings, molecule, potential, self.bias, seed) for seed in seeds]
        self.identity = "shared:" + ",".join(alone)
        saved = resumed(directory, start, self.identity)
        single = build_system(molecule, potential, settings.constraints, settings.hydrogen_mass_Da)
        if self.bias is not None:
            self.bias.add_to(single)
        self.masses = np.array([single.getParticleMass(k)._value for k in range(molecule.n_atoms)])
        thermostat = langevin_middle(settings.temperature_K, settings.friction_per_ps, settings.timestep_ps, 1)
        self.single = Context(single, thermostat, Platform.getPlatformByName("Reference"))
        self.impulses = impulses_for(settings, potential)
        self.platform = chosen_platform(molecule, potential, settings, self.copies, self.impulses, directory, start)
        system = build_system(
            molecule,
            potential,
            settings.constraints,
            settings.hydrogen_mass_Da,
            impulses=self.impulses,
            copies=self.copies,
        )
        if self.bias is not None:
            self.bias.add_to(system, self.copies)
        self.integrator = own_noise.integrator(settings, CONSTRAINT_TOLERANCE)
        platform = Platform.getPlatformByName(self.platform.name)
        self.context = Context(system, self.integrator, platform, self.platform.properties)
        dof, limit = degrees_of_freedom(single), settings.runaway_temperature_K
        self.checks = [StabilityCheck(molecule.topology, dof, settings.temperature_K, limit) for _ in seeds]
        self.record: dict[str, Any] = {
            "settings": settings.model_dump(mode="json"),
            "molecule": {"name": molecule.name, "digest": molecule.digest, "solute_atoms": molecule.n_atoms},
            "potential": potential.describe(),
            "bias": None if self.bias is None else self.bias.describe(),
            "platform": self.platform.describe(),
            "context": {"shared_by": self.copies},
            "versions": record.versions(),
            "command": record.command_line(),
        }
        self.own = [{"seed": seed, "identity": found} for seed, found in zip(seeds, alone, strict=True)]
        self.wall_before = 0.0
        if saved is None:
            self._begin(minimise(single, molecule.positions, settings), seeds)
        else:
            self._continue(saved)
        self._open()
        if saved is None:
            self.checkpoint()
        self._write("running", None, self.wall_before)

    def _begin(self, relaxed: Vectors, seeds: tuple[int, ...]) -> None:
        self.step = 0
        velocities = []
        for seed in seeds:
            self.single.setPositions(relaxed)
            self.single.setVelocitiesToTemperature(self.settings.temperature_K, openmm_seed(seed, "velocities"))
            velocities.append(_rows(self.single.getState(getVelocities=True).getVelocities(asNumpy=True)))
        self._put(tiled(relaxed, self.copies), np.concatenate(velocities), own_noise.start(seeds, len(relaxed)))
        for place in self.places:
            with storage(place):
                place.mkdir(parents=True, exist_ok=True)
                self.molecule.to_pdb(place / "topology.pdb")
            write_atomically(place / "config.yaml", self.settings.to_yaml())

    def _continue(self, saved: Checkpoint) -> None:
        self.step = saved.step
        self.wall_before = float(record.read(self.places[0]).get("wall_seconds", 0.0))
        cut_all_back(self.directory, saved.streams)
        self._put(saved.arrays["positions"], saved.arrays["velocities"], saved.arrays)

    def _put(self, positions: Vectors, velocities: Vectors, noise: dict[str, NDArray[Any]]) -> None:
        self.context.setPositions(positions)
        self.context.setVelocities(velocities)
        self.context.setStepCount(self.step)
        own_noise.put(self.integrator, noise)

    def _open(self) -> None:
        frame_ps = self.settings.report_steps * self.settings.timestep_ps
        self.frames: list[CoordinateStream] = []
        self.logs: list[TableStream] = []
        with storage(self.directory):
            for place in self.places:
                path = place / f"trajectory.{self.settings.format}"
                self.frames.append(CoordinateStream(path, self.molecule.topology, frame_ps))
                self.logs.append(TableStream(place / "log.csv", COLUMNS))
        for stream in (*self.frames, *self.logs):
            self.streams[str(stream.path.relative_to(self.directory))] = stream

    def close(self) -> None:
        """Release all files."""
        for stream in self.streams.values():
            stream.close()

    def run(self, progress: Progress | None, stop: StopRequest) -> tuple[Outcome, ...]:
        """Step to the end, or until ``stop`` or the time limit."""
        settings, total, began = self.settings, self.settings.total_steps, time.monotonic()
        due = began + 60.0 * settings.checkpoint_minutes
        deadline = np.inf if settings.max_hours is None else began + 3600.0 * settings.max_hours
        status: Literal["complete", "stopped"] = "complete"
        chunk = 4
        while self.step < total:
            now = time.monotonic()
            if now > deadline:
                stop.ask("max_hours", 0)
            if stop.reason is not None:
                status = "stopped"
                break
            if now > due:
                self.checkpoint()
                due = time.monotonic() + 60.0 * settings.checkpoint_minutes
            report = (self.step // settings.report_steps + 1) * settings.report_steps
            count = min(report, total, self.step + chunk) - self.step
            self._advance(count)
            if self.step % settings.report_steps == 0:
                self._report()
            spent = time.monotonic() - now
            chunk = int(np.clip(count * _RESPONSE_SECONDS / max(spent, 1e-9), 1, 1_000_000))
            if progress is not None:
                progress.advance(count * self.copies)
        self.checkpoint()
        if self.bias is not None:
            for place in self.places:
                self.bias.save(place / "bias.npz")
        wall = self.wall_before + time.monotonic() - began
        reason = stop.reason if status == "stopped" else None
        self._write(status, reason, wall)
        return tuple(Outcome(Replica(place), status, reason, self.step, wall) for place in self.places)

    def _advance(self, count: int) -> None:
        try:
            if self.impulses is None:
                self.integrator.step(count)
            else:
                with self.impulses.stepping():
                    self.integrator.step(count)
        except OpenMMException as error:
            original = callback.take()
            if original is not None and not isinstance(original, ArithmeticError):
                raise original from None
            self._fail(UnphysicalError(f"step {self.context.getStepCount()}: {original or error}"))
        self.step += count

    def _state(self) -> tuple[Vectors, Vectors]:
        state = self.context.getState(getPositions=True, getVelocities=True)
        return _rows(state.getPositions(asNumpy=True)), _rows(state.getVelocities(asNumpy=True))

    def _report(self) -> None:
        positions, velocities = (split(array, self.copies) for array in self._state())
        time_ps = self.step * self.settings.timestep_ps
        for k, (x, v) in enumerate(zip(positions, velocities, strict=True)):
            kinetic = 0.5 * float((self.masses[:, None] * v * v).sum())
            try:
                self.single.setPositions(x)
                bias = 0.0 if self.bias is None else self.bias.energy(self.single)
                potential = float(self.single.getState(getEnergy=True).getPotentialEnergy()._value) - bias
                self.checks[k].accept(Snapshot(self.step, potential, kinetic, x))
            except (UnphysicalError, OpenMMException) as error:
                original = callback.take() or error
                self._fail(UnphysicalError(f"replica {k}, step {self.step}: {original}"))
            temperature = self.checks[k].temperature(kinetic)
            with storage(self.directory):
                self.frames[k].append(x)
                self.logs[k].append((self.step, time_ps, potential, kinetic, temperature, bias))

    def _fail(self, error: UnphysicalError) -> None:
        for check, place in zip(self.checks, self.places, strict=True):
            check.save_last_good(place / "last_good.pdb")
        failure = {"message": str(error), "step": self.step}
        write_atomically(self.directory / "failure.json", json.dumps(failure, indent=2) + "\n")
        self._write("failed", str(error), self.wall_before)
        raise UnphysicalError(f"{error}; last good states in replica-*/last_good.pdb; try a smaller --timestep-fs")

    def _write(self, status: str, reason: str | None, wall: float) -> None:
        ending = {"status": status, "reason": reason, "step": self.step, "wall_seconds": round(wall, 3)}
        for place, own in zip(self.places, self.own, strict=True):
            record.write(place, {"status": status, **own, **self.record, **ending})

    def checkpoint(self) -> None:
        """Write streams, then the checkpoint that refers to them."""
        with storage(self.directory):
            sizes = {name: stream.sync() for name, stream in self.streams.items()}
        positions, velocities = self._state()
        arrays = {"positions": positions, "velocities": velocities, **own_noise.take(self.integrator)}
        Checkpoint(self.step, b"", sizes, self.identity, arrays).save(self.directory)


def _rows(quantity: Any) -> Vectors:
    return np.array(quantity._value)


def chosen_platform(
    molecule: Molecule,
    potential: Potential,
    settings: RunSettings,
    copies: int,
    impulses: Impulses | None,
    directory: Path,
    start: str,
) -> platforms.PlatformChoice:
    """The platform of a shared Context: as recorded, as asked for, or the fastest for ``auto``."""
    if start == "resume" and settings.platform == "auto":
        for place in sorted(directory.glob("replica-*")):
            used = record.read(place).get("platform", {})
            return platforms.PlatformChoice(str(used["name"]), dict(used["properties"]), float("nan"))
    system = build_system(molecule, potential, settings.constraints, settings.hydrogen_mass_Da, 0, impulses, copies)

    def fresh() -> Any:
        return own_noise.integrator(settings, CONSTRAINT_TOLERANCE)

    return platforms.choose(settings.platform, settings.threads, system, tiled(molecule.positions, copies), fresh)


#: Platforms on which one Context for all replicas can be faster.
GPUS = ("CUDA", "HIP", "OpenCL")


def faster_context(settings: RunSettings, molecule: Molecule, potential: Potential) -> Literal["separate", "shared"]:
    """What a short timing says; on a CPU ``separate`` without one (see :mod:`mlsim.potentials.copies`).

    A System that cannot hold copies is ``separate`` too.
    """
    gpu = next((name for name in GPUS if name in platforms.available()), None)
    if settings.platform not in GPUS and (settings.platform != "auto" or gpu is None):
        return "separate"
    name = gpu if settings.platform == "auto" else settings.platform
    constraints, mass, copies = settings.constraints, settings.hydrogen_mass_Da, settings.replicas
    try:
        require_copies(settings, molecule, potential)
    except InputError:
        return "separate"
    alone = build_system(molecule, potential, constraints, mass)
    together = build_system(molecule, potential, constraints, mass, copies=copies)
    assert name is not None
    chosen = settings.model_copy(update={"platform": "auto"})
    one = platforms.choose("auto", settings.threads, alone, molecule.positions, lambda: _plain(chosen))
    trial = platforms.timed(name, together, tiled(molecule.positions, copies), _own(chosen))
    return "shared" if trial.steps_per_second * copies > one.steps_per_second else "separate"


def _plain(settings: RunSettings) -> Any:
    return langevin_middle(settings.temperature_K, settings.friction_per_ps, settings.timestep_ps, 1)


def _own(settings: RunSettings) -> Any:
    return own_noise.integrator(settings, CONSTRAINT_TOLERANCE)
