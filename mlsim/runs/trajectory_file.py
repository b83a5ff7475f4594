"""Trajectory files of other programs: read with a topology, in its order, with times only where the file has them.

    path, topology -> frames in the order of the topology, boxes, times or None

Formats that carry atom names (PDB, mmCIF, GRO, HDF5, MOL2 ...) may have another order than the topology that is given
with them: their atoms are matched by residue and name and brought into its order, or refused; the order of the file is
never taken for the order of the topology. A DCD file says its times in its header, unless the program that wrote it had
none (VMD and mdtraj put a step of one AKMA unit there); formats without times (PDB, XYZ, mdcrd ...) get none, because a
frame number is not a time. mdtraj opens XTC and DCD by ASCII names only, so every file is opened through a link with a
plain name.
"""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.io import netcdf_file

from mlsim import limits
from mlsim.errors import InputError, MissingError
from mlsim.runs import hdf5_trajectory
from mlsim.units import AKMA_PS

if TYPE_CHECKING:
    import mdtraj

#: Endings of formats that name their atoms.
NAMED = frozenset({".pdb", ".ent", ".gro", ".cif", ".mmcif", ".pdbx", ".h5", ".hdf5", ".mol2", ".prmtop", ".gsd"})
#: Endings of formats that store a time with every frame.
TIMED = frozenset({".xtc", ".trr", ".h5", ".hdf5", ".tng"})
#: Endings of NetCDF trajectories, where times are optional.
_NETCDF = frozenset({".nc", ".netcdf", ".ncdf"})
#: Endings of formats with one frame only; mdtraj takes no stride for them.
_SINGLE = frozenset({".rst7", ".restrt", ".inpcrd", ".ncrst"})
#: Endings of mdtraj's HDF5 format.
_HDF5 = frozenset({".h5", ".hdf5"})
#: Endings of mmCIF files.
_MMCIF = frozenset({".cif", ".mmcif", ".pdbx"})
#: What mdtraj raises for files that it cannot make sense of.
UNREADABLE = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError, AttributeError, ImportError, EOFError),
    *(MemoryError, OverflowError, AssertionError, struct.error, zlib.error),
)


@dataclass(frozen=True, eq=False)
class TrajectoryFrames:
    """Frames of a file in the order of a topology.

    Attributes
    ----------
    positions : float32 [F, N, 3], nm
    boxes : float32 [F, 3, 3], nm, or None
    time_ps : float64 [F], or None
        None where the file does not say.
    topology : mdtraj.Topology
        That of the topology file.
    start : float32 [N, 3], nm
        Positions in the topology file.
    """

    positions: NDArray[np.float32]
    boxes: NDArray[np.float32] | None
    time_ps: NDArray[np.float64] | None
    topology: mdtraj.Topology
    start: NDArray[np.float32]


def load(path: Path, top: Path, stride: int = 1) -> TrajectoryFrames:
    """Read a trajectory file.

    Parameters
    ----------
    path : Path
        Trajectory in a format of mdtraj.
    top : Path
        Topology (PDB or mmCIF file) that decides the order of the atoms.
    stride : int
        Every n-th frame.

    Raises
    ------
    MissingError
        If one of the files is not there.
    InputError
        If it cannot be read, holds no frame, or its atoms are not those of the topology.
    """
    import mdtraj

    for file in (path, top):
        if not file.is_file():
            raise MissingError(f"{file}: no such file" + ("; name the PDB file with --top" if file == top else ""))
    first = _first_frame(top)
    topology = first.topology
    ending = _ending(path).removesuffix(".gz")
    named, timed = ending in NAMED, ending in TIMED
    with plain_name(path) as plain, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*netCDF4")  # a hint about speed
        try:
            own = {} if named else {"top": topology}
            step = {} if ending in _SINGLE else {"stride": stride}
            limits.require_plain(path)
            _require_declared(path, ending, topology.n_atoms)
            if ending in _HDF5:
                found, timed = hdf5_trajectory.read(plain, stride)
            else:
                found = mdtraj.load(str(plain), **step, **own)
        except UNREADABLE as error:
            reason = " ".join(str(error).split()).replace(str(plain), path.name)[:300]
            raise InputError(f"{path}: cannot be read as a trajectory of {top.name}: {reason}") from None
    if not len(found):
        raise InputError(f"{path}: no frames in it")
    order = _order(found.topology, topology, path, top) if named else slice(None)
    boxes = found.unitcell_vectors
    if ending == ".dcd":
        time_ps = _dcd_times(path, len(found), stride)
    else:
        timed = timed or (ending in _NETCDF and _netcdf_has_times(path))
        time_ps = np.asarray(found.time, dtype=np.float64) if timed else None
    return TrajectoryFrames(found.xyz[:, order], boxes, time_ps, topology, first.xyz[0])


def _require_declared(path: Path, ending: str, n_atoms: int) -> None:
    """Raise ValueError if the header of an XTC, TRR or DCD file declares another number of atoms.

    mdtraj reserves memory for what the header says before it compares.
    """
    with open(path, "rb") as handle:
        head = handle.read(4096)
    try:
        if ending == ".xtc":
            (declared,) = struct.unpack_from(">i", head, 4)
        elif ending == ".trr":
            (length,) = struct.unpack_from(">i", head, 8)
            (declared,) = struct.unpack_from(">i", head, 12 + (length + 3) // 4 * 4 + 40)
        elif ending == ".dcd":
            order = "<" if head[:4] == b"T\0\0\0" else ">"
            (title,) = struct.unpack_from(order + "i", head, 92)
            (declared,) = struct.unpack_from(order + "i", head, 92 + 8 + title + 4)
        else:
            return
    except struct.error:
        raise ValueError("its header is cut or damaged") from None
    if declared != n_atoms:
        raise ValueError(f"frames of {declared} atoms, expected {n_atoms}")


def _first_frame(top: Path) -> mdtraj.Trajectory:
    """The structure that gives the order of the atoms."""
    import mdtraj

    is_mmcif = _ending(top).removesuffix(".gz") in _MMCIF
    with plain_name(top) as plain:
        try:
            if not is_mmcif:
                _require_atoms(top)
            first = (mdtraj.load if is_mmcif else mdtraj.load_pdb)(str(plain))[0]
        except UNREADABLE as error:
            reason = " ".join(str(error).split()).replace(str(plain), top.name)[:300]
            raise InputError(f"{top}: cannot be read as a topology; expected a PDB or mmCIF file ({reason})") from None
    return first


def _require_atoms(top: Path) -> None:
    """Refuse a PDB file without atoms, of which mdtraj would leave the handle open."""
    with gzip.open(top) if top.suffix.lower() == ".gz" else open(top, "rb") as handle:
        if not any(line.startswith((b"ATOM", b"HETATM")) for line in handle):
            raise ValueError("no ATOM records")


def _dcd_times(path: Path, count: int, stride: int) -> NDArray[np.float64] | None:
    """Times of the frames of a DCD file from its header (first step, steps between frames, step), or None."""
    with open(path, "rb") as handle:
        head = handle.read(48)
    if len(head) < 48 or head[4:8] != b"CORD":
        return None
    _, first, every = struct.unpack("<3i", head[8:20])
    (step,) = struct.unpack("<f", head[44:48])
    step_ps = step * AKMA_PS
    if step == 1.0 or not (first >= 0 and every > 0 and 1e-6 < step_ps < 1.0):
        return None
    # the header holds the step in single precision; a round number of femtoseconds is what was meant
    exact = round(step_ps, 6)
    times: NDArray[np.float64] = (first + every * stride * np.arange(count)) * exact
    return times


def _netcdf_has_times(path: Path) -> bool:
    """Whether a NetCDF trajectory says its times (mdtraj gives frame numbers where it does not)."""
    with netcdf_file(path, "r", mmap=False) as file:
        return "time" in file.variables


def _ending(path: Path) -> str:
    """Ending in small letters, with what is before ``.gz``."""
    compressed = path.suffix.lower() == ".gz"
    return "".join(path.suffixes[-2:] if compressed else path.suffixes[-1:]).lower()


def _order(found: mdtraj.Topology, wanted: mdtraj.Topology, path: Path, top: Path) -> NDArray[np.int64]:
    """Place in ``found`` of every atom of ``wanted``, by residue (counted along the chain) and name."""
    there: dict[tuple[int, str], int] = {}
    residues = [r for r in found.residues if not r.is_water and r.n_atoms > 1]
    for number, residue in enumerate(residues):
        for atom in residue.atoms:
            there[number, atom.name] = atom.index
    order = []
    for number, residue in enumerate(r for r in wanted.residues if not r.is_water and r.n_atoms > 1):
        for atom in residue.atoms:
            if (number, atom.name) not in there:
                raise InputError(
                    f"{path}: has no atom {atom.name} in residue {number + 1} ({residue.name}), which {top.name} has; "
                    "give the topology that belongs to it"
                )
            order.append(there[number, atom.name])
    if len(order) != wanted.n_atoms or len(set(order)) != len(there):
        raise InputError(
            f"{path}: {len(there)} solute atoms, {top.name} has {wanted.n_atoms}; give the topology that belongs to it"
        )
    return np.array(order, dtype=np.int64)


@contextmanager
def plain_name(path: Path) -> Iterator[Path]:
    """``path`` under an ASCII name with the same ending, for libraries that know no others.

    Where the name of the file itself is ASCII the link is to its directory, so that a library which replaces the file
    (as mdtraj does when it writes) replaces it there; otherwise it is to the file, which must not be written then.
    """
    if str(path).isascii():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mlsim-") as directory:
        if path.name.isascii():
            os.symlink(path.parent.resolve(), Path(directory) / "directory")
            yield Path(directory) / "directory" / path.name
        else:
            os.symlink(path.resolve(), Path(directory) / f"file{_ending(path)}")
            yield Path(directory) / f"file{_ending(path)}"
