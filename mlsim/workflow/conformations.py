"""Conformations from wherever they are, and a choice of a few that cover the torsions evenly."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.chem.catalog import load_system, read_structure
from mlsim.chem.molecule import Molecule
from mlsim.chem.readers.positions import made_whole, require_sound
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.spread import farthest, on_circle
from mlsim.errors import InputError, MissingError
from mlsim.records import RUN_FILE
from mlsim.runs import trajectory_file
from mlsim.runs.trajectory import Run
from mlsim.shapes import Floats, Ints

#: An atom of the molecule and one of its file that are nearer than this are the same, nm.
_SAME_PLACE_NM = 1e-4


@dataclass(frozen=True, eq=False)
class Conformations:
    """Conformations of one molecule and where they come from.

    Attributes
    ----------
    positions : float64 [F, N, 3], nm
    run : int64 [F]
        Index of the trajectory each comes from.
    time_ps : float64 [F]
        Time in it.
    source : str
        Name of the place, for the record.
    """

    positions: Floats
    run: Ints
    time_ps: Floats
    source: str

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, index: Any) -> Conformations:
        """Those at ``index``, in that order."""
        return Conformations(self.positions[index], self.run[index], self.time_ps[index], self.source)

    def to_bytes(self) -> bytes:
        """As a ``.npz`` archive."""
        buffer = io.BytesIO()
        np.savez(buffer, positions=self.positions, run=self.run, time_ps=self.time_ps, source=np.array(self.source))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Conformations:
        """From a ``.npz`` archive of :meth:`to_bytes`.

        Raises
        ------
        InputError
            If it is damaged.
        """
        try:
            archive = limits.arrays(content)
            found = cls(archive["positions"], archive["run"], archive["time_ps"], str(archive["source"]))
        except (ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"damaged conformations ({reason}); remove the directory and start again") from None
        n = len(found.positions)
        if found.positions.shape[2:] != (3,) or found.run.shape != (n,) or found.time_ps.shape != (n,):
            raise InputError("damaged conformations (their arrays do not fit each other); start again in a new place")
        return found


def read(source: Path, molecule: Molecule, top: Path | None = None) -> Conformations:
    """All conformations of a run directory, of force frames (``.h5``), or of a trajectory file.

    Parameters
    ----------
    molecule : Molecule
        The solute they must be of.
    top : path, optional
        PDB file for a trajectory file; default: ``topology.pdb`` beside it.

    Raises
    ------
    MissingError, InputError
        If there is nothing, or it is of another molecule.
    """
    if source.is_dir():
        return _of_run(source, molecule)
    if not source.is_file():
        raise MissingError(f"{source}: no such file or directory; expected a run, force frames (.h5) or a trajectory")
    if source.suffix in (".h5", ".hdf5"):
        frames = ForceFrames.load(source)
        if frames.molecule_digest != molecule.digest:
            raise InputError(f"{source}: frames of another molecule than {molecule.name}")
        positions = np.asarray(frames.positions, dtype=np.float64)
        return Conformations(positions, frames.run, frames.time_ps, source.name)
    return _of_trajectory(source, molecule, source.parent / "topology.pdb" if top is None else top)


def of_system(source: Path, system: str | Path, top: Path | None = None) -> Conformations:
    """As :func:`read`, of a molecule that is named: a shipped system, a directory of one, a PDB file, a sequence."""
    return read(source, load_system(system), top)


def torsions(positions: Floats, molecule: Molecule) -> tuple[tuple[str, ...], Floats]:
    """Names and values [F, 2R] (rad) of the backbone torsions, as in recorded force frames."""
    labels, quadruples = ramachandran_atoms(molecule)
    names = tuple(f"{angle}_{label}" for label in labels for angle in ("phi", "psi"))
    return names, dihedrals(np.asarray(positions, dtype=np.float64), quadruples.reshape(-1, 4))


def choose(conformations: Conformations, molecule: Molecule, count: int, seed: int) -> NDArray[np.int64]:
    """Indices of ``count`` conformations that cover the visited backbone torsions evenly."""
    return farthest(on_circle(torsions(conformations.positions, molecule)[1]), count, seed)


def _of_run(directory: Path, molecule: Molecule) -> Conformations:
    if not (directory / RUN_FILE).is_file():
        raise MissingError(f"{directory}: no run in it (no {RUN_FILE})")
    run = Run.open(directory)
    parts = []
    for number, replica in enumerate(run.replicas):
        solute = replica.record.molecule
        if solute is None or solute.digest != molecule.digest:
            raise InputError(f"{replica.directory}: a run of another molecule than {molecule.name}")
        positions = replica.positions().astype(np.float64)
        parts.append((positions, np.full(len(positions), number), replica.times_ps()))
    joined = [np.concatenate([p[k] for p in parts]) for k in range(3)]
    if len(joined[0]) == 0:
        raise InputError(f"{directory}: no frames in it yet")
    return Conformations(joined[0], joined[1], joined[2], f"run {directory.name} ({run.label})")


def of_molecule(path: Path, top: Path, molecule: Molecule, stride: int = 1) -> tuple[Floats, Floats | None]:
    """Frames of a trajectory file in the order of ``molecule``, checked, and their times if the file has them.

    Parameters
    ----------
    path, top : Path
        Trajectory, and the PDB file of the molecule that gives the order of its atoms.
    molecule : Molecule
        As read from ``top``.

    Returns
    -------
    float64 [F, N, 3], nm
    float64 [F], ps, or None

    Raises
    ------
    MissingError, InputError
        No such files, not of this molecule, or positions that are none of it.
    """
    frames = trajectory_file.load(path, top, stride)
    # by place, because names differ between programs; the positions of the file are kept exactly
    apart = np.linalg.norm(molecule.positions[:, None] - frames.start[None], axis=-1)
    if (apart.min(axis=1) > _SAME_PLACE_NM).any():
        missing = molecule.atom_names[int(apart.min(axis=1).argmax())]
        raise InputError(f"{top}: atom {missing} is not in the file; expected all atoms, hydrogens too")
    order = apart.argmin(axis=1)
    chosen = frames.positions[:, order].astype(np.float64)
    if frames.boxes is not None:
        chosen = made_whole(chosen, frames.boxes, molecule.bonds)
    require_sound(chosen, molecule.bonds, molecule.elements, str(path))
    return chosen, frames.time_ps


def _of_trajectory(path: Path, molecule: Molecule, top: Path) -> Conformations:
    if not top.is_file():
        raise MissingError(f"{top}: no such file; name the PDB file of the trajectory with --top")
    sorted_ = read_structure(top)
    if sorted_.digest != molecule.digest:
        raise InputError(f"{top}: another molecule than {molecule.name}")
    positions, time_ps = of_molecule(path, top, sorted_)
    times = np.full(len(positions), np.nan) if time_ps is None else time_ps
    return Conformations(positions, np.zeros(len(positions), dtype=np.int64), times, path.name)
