"""Replicas of a run in one Context: one step moves all of them, one call evaluates the learned force of all.

    build the copies -> start each as a run alone would -> step all, report copy by copy

Each copy has its own directory, the same files as any run, and its own random stream
(:mod:`mlsim.md.engines.own_noise`), so its path follows from its seed and does not depend on how many move beside it.
The Context knows the energies of all copies together only; those of a copy come from a second Context of one molecule,
at reports. A fixed bias acts on each copy; one that grows has a history, and is for a Context of its own. A checkpoint
in the parent directory holds positions, velocities and streams of all copies; a resumed run equals an uninterrupted
one.

When it pays is measured, not assumed: see :mod:`mlsim.potentials.copies` for the CPU, where independent Contexts win.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from openmm import Context, OpenMMException, Platform

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError, UnphysicalError
from mlsim.md import platforms
from mlsim.md.engines import own_noise
from mlsim.md.integrator import CONSTRAINT_TOLERANCE, impulses_for, langevin_middle
from mlsim.md.prepare import bias_for, equilibrate, minimise, variables_of
from mlsim.md.reporter import Reporter
from mlsim.md.session import Outcome, identity, run_session
from mlsim.md.settings import RunSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.md.stability import Snapshot, StabilityCheck, broken, degrees_of_freedom
from mlsim.potentials.contract import Potential
from mlsim.potentials.copies import split, tiled
from mlsim.potentials.system import build_system
from mlsim.records import RunRecord, SoluteNote, command_line, versions
from mlsim.runs.restart import Checkpoint
from mlsim.runs.streams import Stream
from mlsim.seeds import openmm_seed
from mlsim.starts import Start

Vectors = NDArray[np.float64]


def why_not(settings: RunSettings, molecule: Molecule) -> str | None:
    """Why replicas of such a run cannot share a Context, in a few words; None if they can."""
    if settings.bias == "metadynamics":
        return "a bias that grows acts on one molecule"
    if variables_of(settings):
        return "a bias on collective variables of choice acts on one molecule"
    if settings.guard not in ("auto", "none"):
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
    replicas: Sequence[tuple[Path, int]],
    start: Literal["new", "resume"] = "new",
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> tuple[Outcome, ...]:
    """Run one replica per seed to ``settings.total_steps``.

    Parameters
    ----------
    directory : Path
        For the checkpoint.
    replicas : sequence of (Path, int)
        Directory, below ``directory``, and root seed of each replica.

    Raises
    ------
    InputError
        If a term of the potential cannot act on copies, or the settings ask for what copies cannot have.
    CheckpointError, MissingError, OccupiedError, UnphysicalError, StorageError
        As :func:`mlsim.md.engines.single.simulate`.
    """
    require_copies(settings, molecule, potential)
    request, kept = stop or StopRequest(), tuple(replicas)

    def make(start: Start) -> _Copies:
        return _Copies(molecule, potential, settings, directory, kept, start)

    ending = run_session(make, directory, settings, start, progress, request)
    return tuple(Outcome.of(ending, path) for path, _ in kept)


class _Copies:
    """The Context of all copies, and that of one."""

    def __init__(
        self,
        molecule: Molecule,
        potential: Potential,
        settings: RunSettings,
        directory: Path,
        replicas: tuple[tuple[Path, int], ...],
        start: str,
    ) -> None:
        self.settings, self.molecule, self.potential, self.directory = settings, molecule, potential, directory
        self.directories, self.seeds = zip(*replicas, strict=True)
        self.copies, self.step = len(replicas), 0
        self.bias = bias_for(molecule, settings)
        self.alone = [identity(settings, molecule, potential, self.bias, seed) for seed in self.seeds]
        self.identity = "shared:" + ",".join(self.alone)
        bonds, mass, n = settings.constraints, settings.hydrogen_mass_Da, self.copies
        self.one = build_system(molecule, potential, bonds, mass)
        if self.bias is not None:
            self.bias.add_to(self.one)
        self.masses = np.array([self.one.getParticleMass(k)._value for k in range(molecule.n_atoms)])
        thermostat = langevin_middle(settings.temperature_K, settings.friction_per_ps, settings.timestep_ps, 1)
        self.single = Context(self.one, thermostat, Platform.getPlatformByName("Reference"))
        self.impulses = impulses_for(settings, potential)
        system = build_system(molecule, potential, bonds, mass, impulses=self.impulses, copies=n)
        if start == "resume" and settings.platform == "auto":
            self.platform = platforms.recorded(self.directories[0])
        else:
            self.platform = platforms.choose(settings.platform, settings.threads, system)
        if self.bias is not None:
            self.bias.add_to(system, n)
        self.integrator = self._fresh()
        platform = Platform.getPlatformByName(self.platform.name)
        self.context = Context(system, self.integrator, platform, self.platform.properties)
        dof, limit = degrees_of_freedom(self.one), settings.runaway_temperature_K
        checks = [StabilityCheck(molecule.topology, dof, settings.temperature_K, limit) for _ in self.seeds]
        pairs = zip(self.directories, checks, strict=True)
        self.reporters = tuple(Reporter(path, molecule, check, settings) for path, check in pairs)

    def _fresh(self) -> Any:
        return own_noise.integrator(self.settings, CONSTRAINT_TOLERANCE)

    def begin(self, stop: StopRequest) -> None:
        self._start_at(0, np.repeat(self.molecule.positions[None], self.copies, axis=0))
        self.context.setPositions(tiled(self.molecule.positions, self.copies))
        relaxed = minimise(self.one, self.molecule.positions, self.settings)
        self._start_at(0, np.repeat(relaxed[None], self.copies, axis=0))
        velocities = []
        for seed in self.seeds:
            self.single.setPositions(relaxed)
            self.single.setVelocitiesToTemperature(self.settings.temperature_K, openmm_seed(seed, "velocities"))
            velocities.append(_rows(self.single.getState(getVelocities=True).getVelocities(asNumpy=True)))
        noise = own_noise.start(self.seeds, len(relaxed))
        self._put(tiled(relaxed, self.copies), np.concatenate(velocities), noise)
        equilibrate(self._step, self.settings, stop)
        self.context.setStepCount(0)
        self.context.setTime(0.0)

    def resume(self, saved: Checkpoint) -> None:
        self.step = saved.step
        self._start_at(self.step, split(saved.arrays["positions"], self.copies))
        self._put(saved.arrays["positions"], saved.arrays["velocities"], saved.arrays)

    def _start_at(self, step: int, positions: Vectors) -> None:
        """Tell every check where its copy [copies, N, 3] stands."""
        for reporter, x in zip(self.reporters, positions, strict=True):
            reporter.check.begin_at(step, x)

    def _put(self, positions: Vectors, velocities: Vectors, noise: dict[str, NDArray[Any]]) -> None:
        self.context.setPositions(positions)
        self.context.setVelocities(velocities)
        self.context.setStepCount(self.step)
        own_noise.put(self.integrator, noise)

    def outputs(self) -> Iterable[Stream]:
        return ()

    def advance(self, most: int, total: int) -> int:
        every, before = self.settings.report_steps, self.step
        count = min((before // every + 1) * every, total, before + most) - before
        try:
            self._step(count)
        except OpenMMException as error:
            raise broken(error, f"step {self.context.getStepCount()}") from None
        self.step += count
        if self.step % every == 0:
            self._report()
        return count

    def _step(self, count: int) -> None:
        with nullcontext() if self.impulses is None else self.impulses.stepping():
            self.integrator.step(count)

    def _now(self) -> tuple[Vectors, Vectors]:
        state = self.context.getState(getPositions=True, getVelocities=True)
        return _rows(state.getPositions(asNumpy=True)), _rows(state.getVelocities(asNumpy=True))

    def _report(self) -> None:
        positions, velocities = (split(array, self.copies) for array in self._now())
        for k, (x, v) in enumerate(zip(positions, velocities, strict=True)):
            kinetic = 0.5 * float((self.masses[:, None] * v * v).sum())
            try:
                self.single.setPositions(x)
                bias = 0.0 if self.bias is None else self.bias.energy(self.single)
                potential = float(self.single.getState(getEnergy=True).getPotentialEnergy()._value) - bias
                self.reporters[k].report(Snapshot(self.step, potential, kinetic, x), bias)
            except OpenMMException as error:
                raise broken(error, f"replica {k}, step {self.step}") from None
            except UnphysicalError as error:
                raise UnphysicalError(f"replica {k}, {error}") from error

    def state(self) -> tuple[bytes, dict[str, NDArray[Any]]]:
        positions, velocities = self._now()
        return b"", {"positions": positions, "velocities": velocities, **own_noise.take(self.integrator)}

    def finish(self) -> None:
        if self.bias is not None:
            for path in self.directories:
                self.bias.save(path / "bias.npz")

    def worst_atom(self) -> str:
        return self.reporters[0].check.worst_atom(self.context)

    def record(self) -> RunRecord:
        n, molecule = self.molecule.n_atoms, self.molecule
        return RunRecord(
            engine="shared",
            status="running",
            seed=self.seeds[0],
            copies=self.copies,
            settings=self.settings.model_dump(mode="json"),
            molecule=SoluteNote(name=molecule.name, digest=molecule.digest, solute_atoms=n, atoms=n),
            potential=self.potential.describe(),
            bias=None if self.bias is None else self.bias.describe(),
            platform=self.platform.describe(),
            versions=versions(),
            command=command_line(),
        )

    def records(self) -> Iterable[tuple[Path, Mapping[str, Any]]]:
        root = self.seeds[0] if self.settings.seed is None else self.settings.seed
        yield self.directory, {"engine": "replicas", "seed": root, "identity": self.identity}
        for path, seed, alone in zip(self.directories, self.seeds, self.alone, strict=True):
            yield path, {"seed": seed, "identity": alone}


def _rows(quantity: Any) -> Vectors:
    return np.array(quantity._value)


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
    own = platforms.choose("auto", settings.threads, alone)
    gpu_choice = platforms.PlatformChoice(name, platforms.properties_for(name, 0), "a timing")
    one = platforms.speed(own, alone, molecule.positions, _plain(chosen))
    all_of_them = platforms.speed(gpu_choice, together, tiled(molecule.positions, copies), _own(chosen))
    return "shared" if all_of_them * copies > one else "separate"


def _plain(settings: RunSettings) -> Any:
    return langevin_middle(settings.temperature_K, settings.friction_per_ps, settings.timestep_ps, 1)


def _own(settings: RunSettings) -> Any:
    return own_noise.integrator(settings, CONSTRAINT_TOLERANCE)
