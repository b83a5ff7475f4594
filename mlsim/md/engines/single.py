"""simulate: one molecule in a Context of its own, one verb for reference and learned runs.

    minimise -> choose platform -> step, observe, report

Langevin middle integrator; every random number comes from the root seed. On the Reference platform an interrupted
and resumed run equals an uninterrupted one bit for bit. All else is the session's (:mod:`mlsim.md.session`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from openmm import Context, OpenMMException, Platform

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError
from mlsim.files import storage
from mlsim.md import platforms
from mlsim.md.integrator import canonical, impulses_for, slow_group
from mlsim.md.observers.contract import Observer, Summarised
from mlsim.md.prepare import equilibrate, minimise, starting_molecule
from mlsim.md.reporter import Reporter
from mlsim.md.session import Outcome, identity, run_session
from mlsim.md.settings import Biased
from mlsim.md.signals import StopRequest
from mlsim.md.stability import Snapshot, StabilityCheck, broken, degrees_of_freedom
from mlsim.md.watch import Watch
from mlsim.potentials.biases.grid_bias import GridBias
from mlsim.potentials.contract import Potential
from mlsim.potentials.system import build_system
from mlsim.records import RunRecord, SoluteNote, command_line, versions
from mlsim.runs.restart import Checkpoint
from mlsim.runs.streams import Stream
from mlsim.seeds import openmm_seed
from mlsim.starts import Start


def simulate(
    molecule: Molecule,
    potential: Potential,
    settings: Biased,
    directory: Path,
    seed: int,
    start: Literal["new", "resume"] = "new",
    bias: GridBias | None = None,
    watch: Watch | None = None,
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
    bias : GridBias, optional
        Bias on the solute, in its own force group; logged apart from the potential energy.
    watch : Watch, optional
        Observers, progress, stop request.

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
    watch = watch or Watch()

    def make(start: Start) -> _Single:
        return _Single(molecule, potential, settings, directory, seed, bias, tuple(watch.observers), watch.stop)

    return Outcome.of(run_session(make, directory, settings, start, watch.progress, watch.stop), directory)


class _Single:
    """The Context of one molecule, and everything that looks at it."""

    def __init__(
        self,
        molecule: Molecule,
        potential: Potential,
        settings: Biased,
        directory: Path,
        seed: int,
        bias: GridBias | None,
        observers: tuple[Observer, ...],
        stop: StopRequest,
    ) -> None:
        self.settings, self.directory, self.seed, self.bias = settings, directory, seed, bias
        self.solute, self.potential, self.step = molecule, potential, 0
        self.molecule = starting_molecule(molecule, potential, settings, seed, directory, stop=stop)
        self.impulses = impulses_for(settings, potential)
        bonds, mass = settings.constraints, settings.hydrogen_mass_Da
        self.system = build_system(self.molecule, potential, bonds, mass, slow_group(settings), self.impulses)
        if bias is not None:
            bias.add_to(self.system)
        self.observers = (*((bias,) if bias is not None else ()), *observers)
        self.identity = identity(settings, self.molecule, potential, bias, seed)
        limit = settings.runaway_temperature_K
        dof = degrees_of_freedom(self.system)
        self.check = StabilityCheck(self.molecule.topology, dof, settings.temperature_K, limit)
        self.reporters = (Reporter(directory, self.molecule, self.check, settings),)

    def _fresh(self) -> Any:
        return canonical(self.settings, self.system, openmm_seed(self.seed, "integrator"), self.impulses)

    def _prepare(self, choice: platforms.PlatformChoice) -> None:
        self.platform = choice
        self.integrator = self._fresh()
        platform = Platform.getPlatformByName(choice.name)
        self.context = Context(self.system, self.integrator, platform, choice.properties)

    def _choose(self) -> platforms.PlatformChoice:
        return platforms.choose(self.settings.platform, self.settings.threads, self.system)

    def begin(self, stop: StopRequest) -> None:
        positions = self.molecule.positions
        self._prepare(self._choose())
        self.context.setPositions(positions)
        self.check.begin_at(0, positions)
        if not self.molecule.is_periodic:
            positions = minimise(self.system, positions, self.settings)
            self.context.setPositions(positions)
            self.check.begin_at(0, positions)
        self.context.setVelocitiesToTemperature(self.settings.temperature_K, openmm_seed(self.seed, "velocities"))
        equilibrate(self.integrator.step, self.settings, stop)
        self.context.setStepCount(0)
        self.context.setTime(0.0)

    def resume(self, saved: Checkpoint) -> None:
        if self.settings.platform == "auto":
            self._prepare(platforms.recorded(self.directory))
        else:
            self._prepare(self._choose())
        self.step = saved.step
        try:
            self.context.loadCheckpoint(saved.context)
        except OpenMMException as error:
            raise CheckpointError(
                f"{self.directory}: OpenMM cannot load the checkpoint ({error}); resume on the platform and "
                "OpenMM version recorded in run.json"
            ) from None
        self.check.begin_at(
            self.step, np.array(self.context.getState(getPositions=True).getPositions(asNumpy=True)._value)
        )
        for observer in self.observers:
            prefix = f"{observer.name}/"
            arrays = {k.removeprefix(prefix): v for k, v in saved.arrays.items() if k.startswith(prefix)}
            observer.restore(arrays, self.context)

    def outputs(self) -> Iterable[Stream]:
        self._intervals = [(o.interval, o) for o in self.observers if o.interval > 0]
        return [stream for observer in self.observers for stream in observer.open(self.directory)]

    def advance(self, most: int, total: int) -> int:
        every, before = self.settings.report_steps, self.step
        targets = [(before // i + 1) * i for i in (every, *(i for i, _ in self._intervals))]
        count = min(*targets, total, before + most) - before
        try:
            self.integrator.step(count)
        except OpenMMException as error:
            raise broken(error, f"step {self.context.getStepCount()}") from None
        self.step += count
        for interval, observer in self._intervals:
            if self.step % interval == 0:
                with storage(self.directory):
                    observer.observe(self.step, self.context)
        if self.step % every == 0:
            self._report()
        return count

    def _report(self) -> None:
        state = self.context.getState(getPositions=True, getEnergy=True)
        bias = 0.0 if self.bias is None else self.bias.energy(self.context)
        potential, kinetic = (float(e._value) for e in (state.getPotentialEnergy(), state.getKineticEnergy()))
        positions = np.array(state.getPositions(asNumpy=True)._value)
        self.reporters[0].report(Snapshot(self.step, potential - bias, kinetic, positions), bias)

    def state(self) -> tuple[bytes, dict[str, NDArray[Any]]]:
        arrays = {f"{o.name}/{key}": array for o in self.observers for key, array in o.state().items()}
        return self.context.createCheckpoint(), arrays

    def finish(self) -> None:
        if self.bias is not None:
            self.bias.save(self.directory / "bias.npz")

    def worst_atom(self) -> str:
        return self.check.worst_atom(self.context)

    def record(self) -> RunRecord:
        digest = self.solute.digest if self.molecule.is_periodic else self.molecule.digest
        atoms = {"solute_atoms": len(self.molecule.solute), "atoms": self.molecule.n_atoms}
        return RunRecord(
            engine="single",
            status="running",
            seed=self.seed,
            settings=self.settings.model_dump(mode="json"),
            molecule=SoluteNote(name=self.molecule.name, digest=digest, **atoms),
            potential=self.potential.describe(),
            bias=None if self.bias is None else self.bias.describe(),
            platform=self.platform.describe(),
            identity=self.identity,
            observers={o.name: o.summary() for o in self.observers if isinstance(o, Summarised)},
            versions=versions(),
            command=command_line(),
        )

    def records(self) -> Iterable[tuple[Path, Mapping[str, Any]]]:
        return [(self.directory, {})]
