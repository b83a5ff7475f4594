"""Reference runs by GROMACS: the same box, force field and fixed bias as OpenMM would run, several times faster.

    start.npz (box of mlsim) -> system.top, system.gro, run.mdp -> grompp -> mdrun -> frames (harvest)

A run is one ``mdrun`` that appends; killed at any moment it goes on from its last checkpoint (GROMACS cuts its own
files back), so nothing here keeps a state of its own. A SIGTERM to mlsim becomes one to ``mdrun``, which writes a
checkpoint and stops; a box that is being equilibrated is given up and removed. Not bit-for-bit reproducible: GROMACS
tunes its neighbour lists while it runs.

Only what a reference needs is offered: TIP3P, a fixed bias or none, constant volume.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError, InputError
from mlsim.files import make_directory, write_text
from mlsim.locks import claim
from mlsim.md.gromacs import harvest, input_files, trr
from mlsim.md.gromacs.program import FOLDER, STATE, TPR, TRAJECTORY, Mdrun, executable, gromacs_platform
from mlsim.md.prepare import starting_molecule
from mlsim.md.session import Outcome
from mlsim.md.settings import Biased, formerly_named
from mlsim.md.signals import Progress, Stopped, StopRequest
from mlsim.potentials.dihedral_bias import DihedralBias, load_grid
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.records import RUN_FILE, RunRecord, SoluteNote, command_line, digest_of, versions
from mlsim.runs.restart import RUN
from mlsim.runs.trajectory import Replica
from mlsim.seeds import openmm_seed
from mlsim.starts import clear, standing, take
from mlsim.units import steps_for

#: What such a run is recognised by: the state that ``mdrun`` keeps.
LAYOUT = replace(RUN, checkpoints=(*RUN.checkpoints, f"{FOLDER}/{STATE}"), own=(*RUN.own, FOLDER, "bias.npz"))


def simulate_reference(
    molecule: Molecule,
    settings: Biased,
    solvent: ExplicitWater,
    directory: Path,
    seed: int,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Outcome:
    """Run or continue one explicit-water run of ``settings.total_steps`` in ``directory``.

    Writes what :func:`mlsim.md.engines.single.simulate` with a force recorder writes: record, trajectory, log, force
    frames.

    Parameters
    ----------
    molecule : Molecule
        The solute.
    settings : Biased
        ``report_ps`` is the time between frames and between force labels.
    solvent : ExplicitWater
        Water around the solute.
    seed : int
        Root seed.

    Raises
    ------
    InputError
        For a growing bias.
    CheckpointError
        If ``directory`` holds a run with other settings.
    DependencyError
        Without GROMACS, ParmEd or MDAnalysis.
    StorageError
        If GROMACS cannot write.
    """
    program, stop = executable(), stop or StopRequest()
    grid, began = _grid(settings), time.monotonic()
    with claim(directory):
        take(directory, LAYOUT, "resume" if standing(directory, LAYOUT).begun else "new")
        make_directory(directory / FOLDER)
        run = Mdrun(program, directory / FOLDER, settings)
        box = Mdrun(program, directory / FOLDER / "box", settings)
        try:
            water = starting_molecule(molecule, solvent, settings, seed, directory, box.equilibrate, stop)
        except Stopped:
            clear(directory, LAYOUT)
            return Outcome("stopped", stop.reason, 0, time.monotonic() - began, Replica(directory))
        shutil.rmtree(box.directory, ignore_errors=True)
        head = _head(molecule, water, settings, solvent, grid, seed)
        _same_or_new(directory, head)
        if not (run.directory / TPR).exists():
            input_files.write_inputs(water, grid, settings, openmm_seed(seed, "gromacs"), run.directory)
            run.prepare()
            molecule.to_pdb(directory / "topology.pdb")
            write_text(directory / "config.yaml", settings.to_yaml())
        there = (directory / RUN_FILE).exists()
        began = time.monotonic() - (RunRecord.read(directory).wall_seconds if there else 0.0)
        head.model_copy(update={"step": run.steps()}).write(directory)
        run.extend()
        run.execute(progress, stop)
        step, reason = run.steps(), stop.reason
        complete = step >= settings.total_steps
        harvest.harvest(molecule, grid, settings, run.directory / TRAJECTORY, directory)
        if grid is not None:
            DihedralBias(molecule, settings.temperature_K, grid).save(directory / "bias.npz")
        wall = time.monotonic() - began
        status: Literal["complete", "stopped"] = "complete" if complete else "stopped"
        ending = {"status": status, "reason": reason, "step": step, "wall_seconds": round(wall, 3)}
        head.model_copy(update=ending).write(directory)
    return Outcome(status, reason, step, wall, Replica(directory))


def steps_done(directory: Path, timestep_fs: float, record_ps: float) -> int:
    """Steps of the run in ``directory`` that are on disk (0 where none began)."""
    return trr.last_step(directory / FOLDER / TRAJECTORY, steps_for(record_ps, timestep_fs))


def _grid(settings: Biased) -> NDArray[np.float64] | None:
    if settings.bias == "none":
        return None
    if settings.bias == "metadynamics":
        raise InputError(
            "engine gromacs: expected --bias none or the bias .npz of an earlier run (fixed), got metadynamics; "
            "make a bias cheaply with mlsim run --bias metadynamics in a learned or generalized Born solvent"
        )
    return input_files.cmap_grid(load_grid(Path(settings.bias)))


def _head(
    molecule: Molecule,
    water: Molecule,
    settings: Biased,
    solvent: ExplicitWater,
    grid: NDArray[np.float64] | None,
    seed: int,
) -> RunRecord:
    bias = None if grid is None else {"kind": "fixed grid", "sha256": digest_of(grid.tobytes())}
    # only what differs from the defaults, so that a setting added to mlsim later does not orphan old runs
    free = {"equilibration_ps", "ns", "max_hours", "threads", "checkpoint_minutes", "bias", "platform"}
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude=free)
    kept = json.dumps(formerly_named(values), sort_keys=True)
    n = molecule.n_atoms
    return RunRecord(
        engine="gromacs",
        status="running",
        seed=seed,
        settings=settings.model_dump(mode="json"),
        molecule=SoluteNote(name=molecule.name, digest=molecule.digest, solute_atoms=n, atoms=water.n_atoms),
        potential=solvent.describe(),
        bias=bias,
        platform=gromacs_platform(),
        identity=digest_of(f"{kept}{bias}{molecule.digest}{seed}"),
        versions=versions(),
        command=command_line(),
    )


def _same_or_new(directory: Path, head: RunRecord) -> None:
    if not (directory / RUN_FILE).exists():
        return
    if RunRecord.read(directory).identity != head.identity:
        raise CheckpointError(
            f"{directory}: holds a run with other settings, molecule, bias or engine; repeat its options or choose "
            "another directory"
        )
