"""Frozen-solute labels by GROMACS: a conformation is held in the very waters it was found with.

    f(r) = < F_explicit(r, w) >_w - F_vacuum(r) = -grad W(r)

Conformations are frames of a reference run that GROMACS made, whose trajectory still has all atoms. Solute
and water of such a frame are in equilibrium already, so nothing has to be moved or relaxed: the solute is frozen, water
gets fresh velocities, a short equilibration forgets them, and the force is sampled every ``record_ps`` and averaged
with the covariance of its error (:mod:`mlsim.dataset.averaging`). See :mod:`mlsim.md.engines.held_solute` for the other
road, which needs no such run. Labels are of fixed length here.

``waters.npz`` keeps the chosen frames, so that the labels no longer need the run.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.chem.molecule import Molecule
from mlsim.dataset.averaging import average
from mlsim.errors import InputError, MissingError, UnphysicalError
from mlsim.files import write_npz
from mlsim.md.engines.held_solute import UNITS_PER_LABEL, Label
from mlsim.md.gromacs import input_files, trr
from mlsim.md.gromacs.program import FOLDER, TRAJECTORY, Mdrun, executable, gromacs_platform
from mlsim.md.observers.forces import ForceRecorder
from mlsim.md.settings import LabelSettings, RunSettings
from mlsim.md.signals import Clock, Progress
from mlsim.seeds import openmm_seed
from mlsim.units import FS_PER_PS, PS_PER_NS, steps_for

WATERS = "waters.npz"
_INDEX = "index.ndx"
_GROUP_WIDTH = 15


def keep_waters(run: Path, solute: Molecule, times_ps: NDArray[np.float64], target: Path) -> NDArray[np.float64]:
    """Keep the frames of ``run`` at ``times_ps`` [K] with all atoms; returns the solute's positions [K, n, 3], nm.

    Parameters
    ----------
    run : path
        Run directory (``seed-NNNN``) of ``mlsim reference --engine gromacs``.

    Raises
    ------
    MissingError
        If the run has no GROMACS trajectory, or no frame at one of the times.
    """
    trajectory = run / FOLDER / TRAJECTORY
    if not trajectory.is_file():
        raise MissingError(
            f"{run}: no {FOLDER}/{TRAJECTORY}; labels by GROMACS need a run directory (seed-NNNN) of "
            "mlsim reference --engine gromacs as the place of their conformations"
        )
    wanted = {round(float(t), 4): k for k, t in enumerate(times_ps)}
    everything: dict[int, NDArray[np.float32]] = {}
    box = np.zeros(3)
    for frame in trr.frames(trajectory):
        number = wanted.get(round(frame.time_ps, 4))
        if number is not None:
            whole = trr.whole(frame.positions[: solute.n_atoms], frame.box)
            rest = frame.positions[solute.n_atoms :]
            everything[number], box = np.concatenate([whole, rest]).astype(np.float32), frame.box
    if len(everything) != len(wanted):
        raise MissingError(f"{trajectory}: holds {len(everything)} of the {len(wanted)} frames asked for")
    kept = np.stack([everything[k] for k in range(len(wanted))])
    write_npz(target, {"positions": kept, "box": box}, compressed=False)
    return kept[:, : solute.n_atoms].astype(np.float64)


class HeldInFrame:
    """Labels of kept frames, one after the other.

    Parameters
    ----------
    water : Molecule
        Solute and water in the run's box (topology and order of atoms).
    settings : LabelSettings
        Labels are ``max_ps`` long.
    waters : path
        Of :func:`keep_waters`.
    directory : path
        Scratch directory of this process.
    """

    def __init__(self, water: Molecule, settings: LabelSettings, waters: Path, directory: Path) -> None:
        try:
            archive = limits.arrays(waters)
            self._positions, self._box = archive["positions"], archive["box"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{waters}: damaged ({' '.join(str(error).split())}); start a new run") from None
        if self._positions.shape[1] != water.n_atoms:
            raise InputError(f"{waters}: frames of {self._positions.shape[1]} atoms, the box has {water.n_atoms}")
        self._settings, self._water, self._directory = settings, water, directory
        steps = steps_for(settings.equilibration_ps + settings.max_ps, settings.timestep_fs)
        self._run = RunSettings(
            ns=steps * settings.timestep_fs / FS_PER_PS / PS_PER_NS,
            temperature_K=settings.temperature_K,
            timestep_fs=settings.timestep_fs,
            friction_per_ps=settings.friction_per_ps,
            report_ps=settings.record_ps,
            hydrogen_mass_Da=1.008,
            constraints="none",
            threads=settings.threads,
        )
        self.platform = gromacs_platform()
        self._mdrun = Mdrun(executable(), directory, self._run)
        self._vacuum = ForceRecorder(water.solute_molecule(), self._run, settings.record_ps)

    def measure(self, number: int, progress: Progress | None, clock: Clock) -> Label | None:
        """Label of kept frame ``number``; None if asked to stop before it is done.

        Raises
        ------
        UnphysicalError
            If forces are not finite.
        """
        began, n, settings = time.monotonic(), len(self._water.solute), self._settings
        if clock.is_over():
            return None
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        everything = self._positions[number].astype(np.float64)
        seed = openmm_seed(settings.seed, f"label {number}")
        box = np.diag(self._box.astype(np.float64))
        held = Molecule(
            self._water.name, self._water.topology, everything, self._water.solute, box, self._water.force_field
        )
        input_files.write_inputs(held, None, self._run, seed, self._directory)
        (self._directory / _INDEX).write_text(_groups(n, len(everything)))
        self._mdrun.parameters(input_files.PARAMETERS, seed, {"freezegrps": "solute", "freezedim": "Y Y Y"})
        self._mdrun.prepare(_INDEX)
        self._mdrun.execute(None, clock.stop)
        if clock.is_over():
            return None
        kept, positions = [], everything[:n]
        for frame in trr.frames(self._directory / TRAJECTORY):
            if frame.time_ps > settings.equilibration_ps and frame.forces is not None:
                kept.append(frame.forces[:n].ravel())
        mean = average(np.array(kept))
        if not np.isfinite(mean.mean).all():
            raise UnphysicalError("the force of the solvent on a held conformation is not finite")
        if progress is not None:
            progress.advance(UNITS_PER_LABEL)
        return Label(
            positions,
            mean.mean.reshape(n, 3) - self._vacuum.vacuum_forces(positions),
            mean.covariance,
            mean.inefficiency,
            len(kept) * settings.record_ps,
            settings.equilibration_ps,
            time.monotonic() - began,
        )


def _groups(n: int, total: int) -> str:
    """Index file with the groups System and solute."""
    text = ""
    for name, count in (("System", total), ("solute", n)):
        numbers = [str(k + 1) for k in range(count)]
        rows = [" ".join(numbers[k : k + _GROUP_WIDTH]) for k in range(0, count, _GROUP_WIDTH)]
        text += f"[ {name} ]\n" + "\n".join(rows) + "\n"
    return text
