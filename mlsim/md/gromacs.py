"""Reference runs by GROMACS: the same box, force field and fixed bias as OpenMM would run, several times faster.

    start.npz (box of mlsim) -> system.top, system.gro, run.mdp -> grompp -> mdrun -> frames (gromacs_frames)

A run is one ``mdrun`` that appends; killed at any moment it goes on from its last checkpoint (GROMACS cuts its own
files back), so nothing here keeps a state of its own. A SIGTERM to mlsim becomes one to ``mdrun``, which writes a
checkpoint and stops; a box that is being equilibrated is given up and removed. Not bit-for-bit reproducible: GROMACS
tunes its neighbour lists while it runs.

Only what a reference needs is offered: TIP3P, a fixed bias or none, constant volume.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError, DependencyError, InputError, StorageError
from mlsim.md import gromacs_frames, gromacs_input, record
from mlsim.md.bias import DihedralBias, load_grid
from mlsim.md.classical import ExplicitWater
from mlsim.md.potential import Potential
from mlsim.md.prepare import NPT_PS, NPT_TIMESTEP_FS, PRESSURE_BAR, scaled_box, starting_molecule
from mlsim.md.restart import locked, storage, write_atomically
from mlsim.md.settings import RunSettings
from mlsim.md.signals import Stopped, StopRequest
from mlsim.md.simulate import Outcome, Progress
from mlsim.md.trajectory import Replica
from mlsim.seeds import openmm_seed
from mlsim.units import FS_PER_PS, steps_for

FOLDER = "gromacs"
TPR, STATE, TRAJECTORY, LOG = "run.tpr", "state.cpt", "run.trr", "run.log"
_POLL_SECONDS = 0.5
#: Names of the program, first found is used; the environment variable ``GMX`` comes before both.
_NAMES = ("gmx", "gmx_mpi")


def executable() -> str:
    """Path of the ``gmx`` program.

    Raises
    ------
    DependencyError
        If there is none.
    """
    for name in (os.environ.get("GMX"), *_NAMES):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise DependencyError(
        "engine gromacs: no gmx program found; install GROMACS (Debian: apt install gromacs), "
        "or set GMX to its path, or use --engine openmm"
    )


def simulate_reference(
    molecule: Molecule,
    settings: RunSettings,
    padding_nm: float,
    directory: Path,
    seed: int,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Outcome:
    """Run or continue one explicit-water run of ``settings.total_steps`` in ``directory``.

    Writes what :func:`mlsim.md.simulate.simulate` with a force recorder writes: record, trajectory, log, force frames.

    Parameters
    ----------
    molecule : Molecule
        The solute.
    settings : RunSettings
        ``report_ps`` is the time between frames and between force labels.
    padding_nm : float
        Water around the solute, nm.
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
    program, stop, made = executable(), stop or StopRequest(), not directory.exists()
    grid, began = _grid(settings), time.monotonic()
    with storage(directory):
        (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    with locked(directory):
        run = Mdrun(program, directory / FOLDER, settings)
        box = Mdrun(program, directory / FOLDER / "box", settings)
        try:
            solvent = ExplicitWater(padding_nm)
            water = starting_molecule(molecule, solvent, settings, seed, directory, box.equilibrate, stop)
        except Stopped:
            shutil.rmtree(directory if made else box.place, ignore_errors=True)
            return Outcome(Replica(directory), "stopped", stop.reason, 0, time.monotonic() - began)
        shutil.rmtree(box.place, ignore_errors=True)
        head = _head(molecule, water, settings, padding_nm, grid, seed)
        _same_or_new(directory, head)
        if not (run.place / TPR).exists():
            gromacs_input.write_inputs(water, grid, settings, openmm_seed(seed, "gromacs"), run.place)
            run.prepare()
            molecule.to_pdb(directory / "topology.pdb")
            write_atomically(directory / "config.yaml", settings.to_yaml())
        record.write(directory, {**head, "status": "running", "step": run.steps()})
        began = time.monotonic()
        run.extend()
        run.execute(progress, stop)
        step, reason = run.steps(), stop.reason
        complete = step >= settings.total_steps
        gromacs_frames.harvest(molecule, grid, settings, run.place / TRAJECTORY, directory)
        if grid is not None:
            DihedralBias(molecule, settings.temperature_K, grid).save(directory / "bias.npz")
        wall = time.monotonic() - began
        status: Literal["complete", "stopped"] = "complete" if complete else "stopped"
        ending = {"status": status, "reason": reason, "step": step, "wall_seconds": round(wall, 3)}
        record.write(directory, {**head, **ending})
    return Outcome(Replica(directory), status, reason, step, wall)


def steps_done(directory: Path, timestep_fs: float, record_ps: float) -> int:
    """Steps of the run in ``directory`` that are on disk (0 where none began)."""
    return gromacs_frames.last_step(directory / FOLDER / TRAJECTORY, steps_for(record_ps, timestep_fs))


class Mdrun:
    """One appended run of ``program`` in ``place``."""

    def __init__(self, program: str, place: Path, settings: RunSettings) -> None:
        self.program, self.place, self.settings = program, place, settings

    def equilibrate(
        self, molecule: Molecule, potential: Potential, settings: RunSettings, seed: int, stop: StopRequest
    ) -> Molecule:
        """Minimise, run NPT, scale the box to the mean volume of the second half, minimise again."""
        self.place.mkdir(exist_ok=True)
        gromacs_input.write_inputs(molecule, None, settings, openmm_seed(seed, "equilibration"), self.place)
        self._minimise("system.gro", "relaxed.gro", stop)
        timestep_ps = NPT_TIMESTEP_FS / FS_PER_PS
        steps = steps_for(NPT_PS, NPT_TIMESTEP_FS)
        npt = {"dt": timestep_ps, "nsteps": steps, "tau-t": 0.2, "pcoupl": "C-rescale", "tau-p": 1.0}
        npt |= {"compressibility": 4.5e-5, "ref-p": PRESSURE_BAR, "nstxout": steps // 100, "nstfout": 0}
        self.parameters("npt.mdp", openmm_seed(seed, "equilibration velocities"), npt)
        self._grompp("npt.mdp", "relaxed.gro", "npt.tpr")
        self._mdrun(stop, "-s", "npt.tpr", "-o", "npt.trr", "-c", "npt.gro")
        frames = list(gromacs_frames.frames(self.place / "npt.trr"))
        last = frames[-1]
        edge = np.mean([frame.box.prod() for frame in frames[len(frames) // 2 :]]) ** (1 / 3)
        whole = gromacs_frames.whole_molecules(molecule, last.positions, last.box)
        fixed = scaled_box(molecule, whole, np.diag(last.box), float(edge / last.box.prod() ** (1 / 3)))
        gromacs_input.write_inputs(fixed, None, settings, openmm_seed(seed, "equilibration"), self.place)
        self._minimise("system.gro", "relaxed.trr", stop)
        relaxed = list(gromacs_frames.frames(self.place / "relaxed.trr"))[-1]
        return fixed.with_positions(gromacs_frames.whole_molecules(molecule, relaxed.positions, relaxed.box))

    def _minimise(self, start: str, end: str, stop: StopRequest) -> None:
        self.parameters("minimise.mdp", 1, {"integrator": "steep", "nsteps": 300, "constraints": "none", "nstfout": 0})
        self._grompp("minimise.mdp", start, "minimise.tpr")
        output = ("-c", end) if end.endswith(".gro") else ("-o", end, "-c", "minimised.gro")
        self._mdrun(stop, "-s", "minimise.tpr", *output)

    def parameters(self, name: str, seed: int, changes: Mapping[str, object]) -> None:
        """Write run parameters with ``changes``."""
        write_atomically(self.place / name, gromacs_input.parameters(self.settings, seed, changes))

    def _threads(self) -> tuple[str, ...]:
        return ("-ntmpi", "1", "-pin", "off", "-ntomp", str(self.settings.threads or os.cpu_count() or 1))

    def prepare(self, index: str | None = None) -> None:
        """Run-input file from the written inputs (``index``: file of atom groups)."""
        self._grompp(gromacs_input.PARAMETERS, gromacs_input.COORDINATES, "new.tpr", index)
        os.replace(self.place / "new.tpr", self.place / TPR)

    def _grompp(self, parameters: str, coordinates: str, target: str, index: str | None = None) -> None:
        inputs = ["-f", parameters, "-c", coordinates, "-p", gromacs_input.TOPOLOGY]
        inputs += ["-n", index] if index else []
        self._call("grompp", *inputs, "-o", target, "-maxwarn", "3")

    def extend(self) -> None:
        """Let the run end at the settings' total."""
        total = str(self.settings.total_steps)
        self._call("convert-tpr", "-s", TPR, "-nsteps", total, "-o", "longer.tpr")
        os.replace(self.place / "longer.tpr", self.place / TPR)

    def steps(self) -> int:
        """Steps whose frames are on disk."""
        return gromacs_frames.last_step(self.place / TRAJECTORY, self.settings.report_steps)

    def execute(self, progress: Progress | None, stop: StopRequest) -> None:
        """Run ``mdrun`` to its end, a stop request or the time limit."""
        if self.steps() >= self.settings.total_steps or stop.reason is not None:
            return
        began, told = time.monotonic(), self.steps()
        minutes = max(1.0, self.settings.checkpoint_minutes)
        command = [self.program, "mdrun", "-s", TPR, "-cpi", STATE, "-cpo", STATE, "-cpt", f"{minutes:g}"]
        command += ["-o", TRAJECTORY, "-g", LOG, "-e", "run.edr", "-c", "last.gro", *self._threads()]
        with open(self.place / "mdrun.txt", "a") as output:
            process = subprocess.Popen(command, cwd=self.place, stdout=output, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    if self.settings.max_hours and time.monotonic() - began > 3600 * self.settings.max_hours:
                        stop.ask("max_hours", 0)
                    if stop.reason is not None:
                        process.send_signal(signal.SIGTERM)
                        process.wait()
                    now = self.steps()
                    if progress is not None and now > told:
                        progress.advance(now - told)
                        told = now
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode != 0 and stop.reason is None:
            raise StorageError(f"{self.place}: gmx mdrun failed: {_last_words(self.place / 'mdrun.txt')}")

    def _mdrun(self, stop: StopRequest, *arguments: str) -> None:
        """A run without a checkpoint, given up at a stop request."""
        stop.heed()
        self._call("mdrun", *arguments, *self._threads(), stop=stop)

    def _call(self, *arguments: str, stop: StopRequest | None = None) -> None:
        """A program of GROMACS to its end, or until ``stop`` is asked for."""
        words = self.place / "failure.txt"
        with open(words, "w") as output:
            process = subprocess.Popen(
                [self.program, *arguments], cwd=self.place, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                while process.poll() is None:
                    if stop is not None:
                        stop.heed()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL_SECONDS)
            finally:
                if process.poll() is None:
                    process.kill()  # minimisations do not listen to SIGTERM, and what they wrote is thrown away
                    process.wait()
        if stop is not None:
            stop.heed()  # a Ctrl-C reaches the program as well, which then ends early
        if process.returncode != 0:
            raise InputError(f"gmx {arguments[0]} failed: {_last_words(words)}")
        words.unlink()


def _grid(settings: RunSettings) -> NDArray[np.float64] | None:
    if settings.bias == "none":
        return None
    if settings.bias == "metadynamics":
        raise InputError(
            "engine gromacs: expected --bias none or the bias .npz of an earlier run (fixed), got metadynamics; "
            "make a bias cheaply with mlsim run --bias metadynamics in a learned or generalized Born solvent"
        )
    return gromacs_input.cmap_grid(load_grid(Path(settings.bias)))


def _head(
    molecule: Molecule,
    water: Molecule,
    settings: RunSettings,
    padding_nm: float,
    grid: NDArray[np.float64] | None,
    seed: int,
) -> dict[str, Any]:
    bias = None if grid is None else {"kind": "fixed grid", "sha256": hashlib.sha256(grid.tobytes()).hexdigest()[:16]}
    # only what differs from the defaults, so that a setting added to mlsim later does not orphan old runs
    free = {"ns", "max_hours", "threads", "checkpoint_minutes", "bias", "platform"}
    kept = json.dumps(settings.model_dump(mode="json", exclude_defaults=True, exclude=free), sort_keys=True)
    return {
        "engine": "gromacs",
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "molecule": {
            "name": molecule.name,
            "digest": molecule.digest,
            "solute_atoms": molecule.n_atoms,
            "atoms": water.n_atoms,
        },
        "potential": ExplicitWater(padding_nm).describe(),
        "bias": bias,
        "platform": {"name": "GROMACS", "program": Path(executable()).name, "version": _version()},
        "identity": hashlib.sha256(f"{kept}{bias}{molecule.digest}{seed}".encode()).hexdigest()[:16],
        "versions": record.versions(),
        "command": record.command_line(),
    }


def _same_or_new(directory: Path, head: dict[str, Any]) -> None:
    if not (directory / record.FILE).exists():
        return
    found = record.read(directory).get("identity")
    if found != head["identity"]:
        raise CheckpointError(
            f"{directory}: holds a run with other settings, molecule, bias or engine; repeat its options or choose "
            "another directory"
        )


def _version() -> str:
    text = subprocess.run([executable(), "--version"], capture_output=True, text=True).stdout
    lines = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("GROMACS version")]
    return lines[0] if lines else "unknown"


def _last_words(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    errors = [k for k, line in enumerate(lines) if "error" in line.lower()]
    chosen = lines[errors[-1] : errors[-1] + 3] if errors else lines[-3:]
    return f"{' '.join(chosen)[:300]} (all in {path})"
