"""Frames of a GROMACS run in the files of this package: force labels, trajectory and log.

    f = F_gromacs(r, w) - F_bias(r) - F_vacuum(r)              (solute atoms)

``run.trr`` holds positions and total forces (without those of constraints) of all atoms. Bias and vacuum are evaluated
by OpenMM in one Context on the positions of the frame, so that both are exactly known, and the bias energy of every
frame with them. Frames are written as :class:`mlsim.md.observers.forces.ForceRecorder` writes them.

A harvest starts anew each time: it is minutes at most, and GROMACS may have cut its trajectory back.
"""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Platform

from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.files import replacing
from mlsim.md.gromacs.input_files import add_cmap
from mlsim.md.gromacs.trr import frames, whole
from mlsim.md.integrator import verlet
from mlsim.md.observers.forces import FILES
from mlsim.md.settings import Biased
from mlsim.potentials.dihedral_bias import BIAS_GROUP
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.runs.trajectory import COLUMNS
from mlsim.runs.trajectory_file import plain_name


def harvest(
    solute: Molecule, grid: NDArray[np.float64] | None, settings: Biased, trajectory: Path, directory: Path
) -> int:
    """Write force frames, ``trajectory.xtc`` and ``log.csv`` of all frames after the first; returns their number.

    Parameters
    ----------
    grid : float64 [R, 24, 24], kJ/mol, or None
        The CMAP bias of the run.

    Raises
    ------
    DependencyError
        If MDAnalysis is not installed.
    """
    import mdtraj

    n, atoms = solute.n_atoms, ramachandran_atoms(solute)[1].reshape(-1, 4)
    inner = _Inner(solute, grid, settings)
    positions: list[NDArray[np.float32]] = []
    rows: list[tuple[float, ...]] = []
    with ExitStack() as stack:
        x_file, f_file, s_file = (
            stack.enter_context(open(stack.enter_context(replacing(directory / name)), "wb")) for name in FILES
        )
        for frame in frames(trajectory):
            if frame.time_ps <= 0.0 or frame.forces is None:
                continue
            time_ps, x, f = frame.time_ps, whole(frame.positions[:n], frame.box), frame.forces[:n]
            forces, vacuum, bias = inner.evaluate(x)
            x_file.write(x.astype("<f4").tobytes())
            f_file.write((f - forces).astype("<f4").tobytes())
            s_file.write(np.array([time_ps, bias, *dihedrals(x, atoms)], dtype="<f8").tobytes())
            positions.append(x.astype(np.float32))
            # the energy of the box is not needed by anyone; the solute's own is what a reader may want
            rows.append((round(time_ps / settings.timestep_ps), time_ps, vacuum, np.nan, np.nan, bias))
    topology = mdtraj.load_topology(str(directory / "topology.pdb"))
    if rows:
        times = np.array([row[1] for row in rows])
        with replacing(directory / "trajectory.xtc") as partial, plain_name(partial) as plain:
            mdtraj.Trajectory(np.array(positions), topology, times).save_xtc(str(plain))
    with replacing(directory / "log.csv") as partial, open(partial, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return len(rows)


class _Inner:
    """Vacuum and bias of the solute at given positions."""

    def __init__(self, solute: Molecule, grid: NDArray[np.float64] | None, settings: Biased) -> None:
        system = build_system(solute, Vacuum(), settings.constraints, settings.hydrogen_mass_Da)
        if grid is not None:
            add_cmap(system, solute, grid, BIAS_GROUP)
        self._context = Context(system, verlet(1e-3), Platform.getPlatformByName("Reference"))

    def evaluate(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
        """Forces of vacuum and bias [n, 3], kJ/mol/nm, energy of vacuum and of bias, kJ/mol."""
        self._context.setPositions(positions)
        state = self._context.getState(getForces=True, getEnergy=True)
        bias = self._context.getState(getEnergy=True, groups={BIAS_GROUP}).getPotentialEnergy()._value
        total = state.getPotentialEnergy()._value
        return np.array(state.getForces(asNumpy=True)._value), float(total - bias), float(bias)
