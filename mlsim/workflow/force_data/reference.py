"""Explicit-solvent reference: biased runs of the solute in water, with force labels, from one or several seeds.

    box (NPT) -> NVT with a bias on the backbone torsions -> frames.h5 (labels), bias.npz, trajectory, log

``bias`` says what pushes the solute over its barriers: ``metadynamics`` (well-tempered, grows during the run),
a ``.npz`` file of an earlier run (fixed: frames reweight exactly), or ``none``.
``engine`` says who computes: OpenMM, or GROMACS (fixed bias only, several times faster on processors; the same files).
Each seed is a run directory of its own (``seed-0001``), resumable and independent, so seeds can be made by separate
processes or on separate machines and put together afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.files import make_directory
from mlsim.locks import lock
from mlsim.md.engines.single import simulate
from mlsim.md.gromacs import water_run
from mlsim.md.observers.forces import ForceRecorder, collect, has_frames
from mlsim.md.session import Outcome
from mlsim.md.settings import ReferenceSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.records import RUN_FILE, RunRecord
from mlsim.runs.restart import begun, steps_done
from mlsim.workflow.fan_out import fan_out
from mlsim.workflow.simulation.biases_by_name import bias_for


def seed_directory(directory: Path, seed: int) -> Path:
    """Where the run of ``seed`` lives."""
    return directory / f"seed-{seed:04d}"


def run_seed(
    molecule: Molecule,
    settings: ReferenceSettings,
    directory: Path,
    seed: int,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Outcome:
    """Run or continue the reference of one seed.

    Parameters
    ----------
    molecule : Molecule
        Without solvent.
    directory : Path
        The reference directory; this seed goes to ``seed-NNNN`` inside it.
    """
    seed_run = seed_directory(directory, seed)
    run = settings.model_copy(update={"seed": seed, "system": named_at_begin(settings.system, molecule, seed_run)})
    water = ExplicitWater(settings.padding_nm, settings.ions, settings.box_equilibration_ps, settings.solvent)
    if settings.engine == "gromacs":
        labelled = run.model_copy(
            update={"report_ps": settings.record_ps, "equilibration_ps": 0.0}
        )  # its box is in equilibrium
        return water_run.simulate_reference(molecule, labelled, water, seed_run, seed, progress=progress, stop=stop)
    return simulate(
        molecule,
        water,
        run,
        seed_run,
        seed,
        "resume" if begun(seed_run) else "new",
        bias_for(molecule, run),
        Watch((ForceRecorder(molecule, run, settings.record_ps),), progress, stop or StopRequest()),
    )


def named_at_begin(system: str, molecule: Molecule, directory: Path) -> str:
    """How a run in ``directory`` named its system when it was begun, if it is of this molecule; else ``system``.

    A path may be typed in another way from another directory; the name is part of what a run is recognised by.
    """
    if not (directory / RUN_FILE).is_file():
        return system
    record = RunRecord.read(directory)
    same = record.molecule is not None and record.molecule.digest == molecule.digest
    return str(record.settings.get("system", system)) if same else system


@dataclass(frozen=True)
class SeedTask:
    """One seed's work, picklable."""

    settings: ReferenceSettings
    directory: Path
    seed: int

    def __call__(self, progress: Progress | None, stop: StopRequest) -> Outcome:
        """Run or continue it in this process."""
        molecule = load_system(self.settings.system)
        return run_seed(molecule, self.settings, self.directory, self.seed, progress=progress, stop=stop)


def done_steps(directory: Path, seeds: Iterable[int], settings: ReferenceSettings) -> int:
    """Steps that earlier calls did for ``seeds`` together."""
    places = [seed_directory(directory, seed) for seed in seeds]
    if settings.engine == "gromacs":
        return sum(water_run.steps_done(seed_run, settings.timestep_fs, settings.record_ps) for seed_run in places)
    return steps_done(places)


def recorded(directory: Path) -> list[Path]:
    """Runs of seeds in ``directory`` that hold force frames."""
    return sorted(p for p in directory.glob("seed-*") if (p / "run.json").is_file() and has_frames(p))


def gather(molecule: Molecule, directory: Path) -> Path:
    """Put the recorded frames of all seeds into ``frames.h5`` and return its path.

    Raises
    ------
    InputError
        If the directory holds no seed with frames.
    """
    places = recorded(directory)
    if not places:
        raise InputError(f"{directory}: no seed-* runs with frames in here; make them with mlsim reference")
    frames = collect(molecule, places)
    target = directory / "frames.h5"
    frames.save(target)
    return target


@dataclass(frozen=True)
class References:
    """What :func:`reference` leaves.

    Attributes
    ----------
    outcomes : tuple of Outcome
        One per seed that was run or continued.
    frames : Path or None
        ``frames.h5`` with the force labels of all seeds; None if it was stopped before the first one.
    """

    outcomes: tuple[Outcome, ...]
    frames: Path | None


def reference(
    settings: ReferenceSettings,
    directory: str | Path,
    seeds: Sequence[int] = (1,),
    *,
    processes: int = 1,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> References:
    """Run the solute in explicit water from several seeds, and record the force of the water on it.

    Parameters
    ----------
    settings : ReferenceSettings
        ``ns`` is the length per seed, ns; ``record_ps`` the time between force labels, ps.
    directory : str or Path
        The reference directory; runs that are there already are continued up to ``ns``.
    seeds : sequence of int
        Seeds of independent runs.
    processes : int
        Number of seeds at the same time.

    Returns
    -------
    References
        ``frames.h5`` holds ForceFrames: positions [F, N, 3] (nm), forces [F, N, 3] (kJ/mol/nm), bias [F] (kJ/mol).

    Raises
    ------
    MlsimError
        Whatever :func:`run_seed` raises.
    """
    directory, stop = Path(directory), stop or StopRequest()
    if not seeds or min(seeds) < 0 or processes < 1:
        raise InputError(f"expected seeds from 0 on and at least 1 process, got {list(seeds)} and {processes}")
    molecule = load_system(settings.system)
    bias_for(molecule, settings)  # refused before anything is written
    make_directory(directory)
    outcomes = fan_out([SeedTask(settings, directory, seed) for seed in seeds], processes, progress, stop)
    if stop.reason is not None and not recorded(directory):
        return References(outcomes, None)
    with lock(directory):
        return References(outcomes, gather(molecule, directory))
