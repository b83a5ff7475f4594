"""The ``gmx`` program: found, called, watched; boxes equilibrated by it and runs appended.

A SIGTERM to mlsim becomes one to ``mdrun``, which writes a checkpoint and stops; work without a checkpoint is given up.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.chem.molecule import Molecule
from mlsim.errors import DependencyError, InputError, StorageError
from mlsim.files import write_bytes, write_text
from mlsim.md.gromacs import input_files, trr
from mlsim.md.prepare import NPT_PS, NPT_TIMESTEP_FS, PRESSURE_BAR, scaled_box
from mlsim.md.settings import Biased, Canonical
from mlsim.md.signals import Clock, Progress, StopRequest
from mlsim.potentials.contract import Potential
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


class Mdrun:
    """One appended run of ``program`` in ``directory``."""

    def __init__(self, program: str, directory: Path, settings: Biased) -> None:
        self.program, self.directory, self.settings = program, directory, settings

    def equilibrate(
        self, molecule: Molecule, potential: Potential, settings: Canonical, seed: int, stop: StopRequest
    ) -> Molecule:
        """Minimise, run NPT, scale the box to the mean volume of the second half, minimise again."""
        self.directory.mkdir(exist_ok=True)
        input_files.write_inputs(molecule, None, settings, openmm_seed(seed, "equilibration"), self.directory)
        self._minimise("system.gro", "relaxed.gro", stop)
        timestep_ps = NPT_TIMESTEP_FS / FS_PER_PS
        steps = steps_for(getattr(potential, "equilibration_ps", None) or NPT_PS, NPT_TIMESTEP_FS)
        npt = {"dt": timestep_ps, "nsteps": steps, "tau-t": 0.2, "pcoupl": "C-rescale", "tau-p": 1.0}
        npt |= {"compressibility": 4.5e-5, "ref-p": PRESSURE_BAR, "nstxout": steps // 100, "nstfout": 0}
        self.parameters("npt.mdp", openmm_seed(seed, "equilibration velocities"), npt)
        self._grompp("npt.mdp", "relaxed.gro", "npt.tpr")
        self._mdrun(stop, "-s", "npt.tpr", "-o", "npt.trr", "-c", "npt.gro")
        frames = list(trr.frames(self.directory / "npt.trr"))
        last = frames[-1]
        edge = np.mean([frame.box.prod() for frame in frames[len(frames) // 2 :]]) ** (1 / 3)
        whole = trr.whole_molecules(molecule, last.positions, last.box)
        fixed = scaled_box(molecule, whole, np.diag(last.box), float(edge / last.box.prod() ** (1 / 3)))
        input_files.write_inputs(fixed, None, settings, openmm_seed(seed, "equilibration"), self.directory)
        self._minimise("system.gro", "relaxed.trr", stop)
        relaxed = list(trr.frames(self.directory / "relaxed.trr"))[-1]
        return fixed.with_positions(trr.whole_molecules(molecule, relaxed.positions, relaxed.box))

    def _minimise(self, start: str, end: str, stop: StopRequest) -> None:
        self.parameters("minimise.mdp", 1, {"integrator": "steep", "nsteps": 300, "constraints": "none", "nstfout": 0})
        self._grompp("minimise.mdp", start, "minimise.tpr")
        output = ("-c", end) if end.endswith(".gro") else ("-o", end, "-c", "minimised.gro")
        self._mdrun(stop, "-s", "minimise.tpr", *output)

    def parameters(self, name: str, seed: int, changes: Mapping[str, object]) -> None:
        """Write run parameters with ``changes``."""
        write_text(self.directory / name, input_files.parameters(self.settings, seed, changes))

    def _threads(self) -> tuple[str, ...]:
        return ("-ntmpi", "1", "-pin", "off", "-ntomp", str(self.settings.threads or os.cpu_count() or 1))

    def prepare(self, index: str | None = None) -> None:
        """Run-input file from the written inputs (``index``: file of atom groups)."""
        self._grompp(input_files.PARAMETERS, input_files.COORDINATES, "new.tpr", index)
        self._take("new.tpr")

    def _grompp(self, parameters: str, coordinates: str, target: str, index: str | None = None) -> None:
        inputs = ["-f", parameters, "-c", coordinates, "-p", input_files.TOPOLOGY]
        inputs += ["-n", index] if index else []
        self._call("grompp", *inputs, "-o", target, "-maxwarn", "3")

    def extend(self) -> None:
        """Let the run end at the settings' total."""
        total = str(self.settings.total_steps)
        self._call("convert-tpr", "-s", TPR, "-nsteps", total, "-o", "longer.tpr")
        self._take("longer.tpr")

    def _take(self, name: str) -> None:
        """Let a new run-input file replace the present one, whole or not at all."""
        write_bytes(self.directory / TPR, (self.directory / name).read_bytes())
        (self.directory / name).unlink()

    def steps(self) -> int:
        """Steps whose frames are on disk."""
        return trr.last_step(self.directory / TRAJECTORY, self.settings.report_steps)

    def execute(self, progress: Progress | None, stop: StopRequest) -> None:
        """Run ``mdrun`` to its end, a stop request or the time limit."""
        if self.steps() >= self.settings.total_steps or stop.reason is not None:
            return
        clock, told = Clock.of_hours(self.settings.max_hours, stop), self.steps()
        minutes = max(1.0, self.settings.checkpoint_minutes)
        command = [self.program, "mdrun", "-s", TPR, "-cpi", STATE, "-cpo", STATE, "-cpt", f"{minutes:g}"]
        command += ["-o", TRAJECTORY, "-g", LOG, "-e", "run.edr", "-c", "last.gro", *self._threads()]
        with open(self.directory / "mdrun.txt", "a") as output:
            process = subprocess.Popen(command, cwd=self.directory, stdout=output, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    if clock.is_over():
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
            raise StorageError(f"{self.directory}: gmx mdrun failed: {_last_words(self.directory / 'mdrun.txt')}")

    def _mdrun(self, stop: StopRequest, *arguments: str) -> None:
        """A run without a checkpoint, given up at a stop request."""
        stop.heed()
        self._call("mdrun", *arguments, *self._threads(), stop=stop)

    def _call(self, *arguments: str, stop: StopRequest | None = None) -> None:
        """A program of GROMACS to its end, or until ``stop`` is asked for."""
        words = self.directory / "failure.txt"
        with open(words, "w") as output:
            process = subprocess.Popen(
                [self.program, *arguments], cwd=self.directory, stdout=output, stderr=subprocess.STDOUT
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


def gromacs_platform() -> dict[str, Any]:
    """What a record says of the platform."""
    return {"name": "GROMACS", "properties": {"program": Path(executable()).name, "version": version()}}


def version() -> str:
    """What the program calls its version."""
    text = subprocess.run([executable(), "--version"], capture_output=True, text=True).stdout
    lines = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("GROMACS version")]
    return lines[0] if lines else "unknown"


def _last_words(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    errors = [k for k, line in enumerate(lines) if "error" in line.lower()]
    chosen = lines[errors[-1] : errors[-1] + 3] if errors else lines[-3:]
    return f"{' '.join(chosen)[:300]} (all in {path})"
