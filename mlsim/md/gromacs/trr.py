"""Trajectories of GROMACS (``.trr``): frames with forces, how many there are, molecules made whole."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.errors import DependencyError


def last_step(trajectory: Path, steps_per_frame: int) -> int:
    """Step of the last whole frame of a ``.trr`` (0: none), from its size; frames are all of one size."""
    if not trajectory.is_file() or trajectory.stat().st_size == 0:
        return 0
    with open(trajectory, "rb") as handle:
        start = handle.read(256)
    sizes = struct.unpack(">10i", start[24:64])
    real = 8 if sizes[2] == 72 else 4  # of the box
    header = 24 + 52 + 2 * real
    frame = header + sum(sizes)
    count = trajectory.stat().st_size // frame
    return max(0, count - 1) * steps_per_frame


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a ``.trr``: all atoms as GROMACS keeps them (wrapped).

    ``positions`` [N, 3], nm; ``forces`` [N, 3], kJ/mol/nm (None if not written); ``box`` [3], nm, edges.
    """

    time_ps: float
    positions: NDArray[np.float64]
    forces: NDArray[np.float64] | None
    box: NDArray[np.float64]


def frames(trajectory: Path) -> Iterator[Frame]:
    """Read a ``.trr`` frame by frame (none, if GROMACS has not begun to write it).

    Raises
    ------
    DependencyError
        If MDAnalysis is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from MDAnalysis.coordinates.TRR import TRRReader
    except ImportError as error:
        raise DependencyError(
            f'MDAnalysis is needed for GROMACS runs ({error}): pip install "mlsim[gromacs]"'
        ) from None
    if not trajectory.is_file() or trajectory.stat().st_size == 0:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with TRRReader(str(trajectory), convert_units=False, refresh_offsets=True) as reader:
            for frame in reader:
                forces = frame.forces.astype(np.float64) if frame.has_forces else None
                positions = frame.positions.astype(np.float64)
                yield Frame(float(frame.time), positions, forces, frame.dimensions[:3].astype(np.float64))


def whole(positions: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions [n, 3] (nm) without jumps over the faces of a rectangular box: each atom beside the one before it."""
    steps = np.diff(positions, axis=0)
    steps -= np.round(steps / box) * box
    return positions[0] + np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])


def whole_molecules(
    molecule: Molecule, positions: NDArray[np.float64], box: NDArray[np.float64]
) -> NDArray[np.float64]:
    """All positions [N, 3] (nm) with the solute and every water whole."""
    n = len(molecule.solute)
    parts = [whole(positions[:n], box)]
    for residue in molecule.topology.residues():
        atoms = [atom.index for atom in residue.atoms()]
        if atoms[0] >= n:
            parts.append(whole(positions[atoms], box))
    return np.concatenate(parts)
