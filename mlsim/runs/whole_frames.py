"""What of a run's files is whole: a killed run gives its whole frames, a damaged one is refused in one line.

A run that is killed, or still goes on, leaves a last row or frame that is cut. It is left out. Everything else that
does not fit (a second header, text between the numbers, steps that do not rise, a file of another molecule) is damage
that nobody can mend by reading on, and is refused.

Trajectory files are walked from header to header before a library reads them, because libraries of both formats read
past what they do not understand. XTC: a frame is 52 bytes of header, then for more than nine atoms 40 bytes and the
packed coordinates, of a length that stands before them and is rounded up to 4. DCD: 276 bytes, then three Fortran
records of 4 n + 8 bytes per frame.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError, MissingError
from mlsim.runs.streams import repair_dcd_header
from mlsim.runs.trajectory_file import plain_name

_XTC_HEADER, _XTC_PACKED, _DCD_HEADER = 52, 92, 276
#: Numbers that begin a frame of XTC: the usual one, and that of very large systems (never written here).
_XTC_MAGIC = 1995
#: Up to this many atoms XTC stores plain numbers.
_XTC_PLAIN_ATOMS = 9


def read_log(path: Path, columns: tuple[str, ...], finite: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Columns of a log by name [F], without a last row that is cut.

    Parameters
    ----------
    columns : tuple of str
        Names that the header must have; the first one counts steps, which rise.
    finite : tuple of str
        Columns whose values must be numbers.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        With the line that is damaged.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; the run directory is incomplete")
    try:
        lines = path.read_bytes().decode("ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a log of this package ({' '.join(str(error).split())[:120]})") from None
    lines.pop()  # what stands behind the last line end: nothing, or a row that is cut
    if not lines and path.stat().st_size < len(",".join(columns)) + 1:
        return {name: np.zeros(0) for name in columns}  # killed before its header was written
    if not lines or lines[0].rstrip("\r").split(",") != list(columns):
        raise InputError(f"{path}: expected the columns {','.join(columns)}")
    table = np.empty((len(lines) - 1, len(columns)))
    for k, line in enumerate(lines[1:]):
        try:
            table[k] = [float(word) for word in line.split(",")]
        except ValueError:
            raise InputError(
                f"{path}: line {k + 2} is damaged, expected {len(columns)} numbers, got {line[:60]!r}; remove it and "
                "its frame, or leave this run out"
            ) from None
    log = {name: table[:, k] for k, name in enumerate(columns)}
    for name in finite:
        if not np.isfinite(log[name]).all():
            line_number = int(np.flatnonzero(~np.isfinite(log[name]))[0]) + 2
            raise InputError(f"{path}: line {line_number} has no number in column {name}; the log is damaged")
    if (np.diff(table[:, 0]) <= 0).any():
        line_number = int(np.flatnonzero(np.diff(table[:, 0]) <= 0)[0]) + 3
        raise InputError(
            f"{path}: the {columns[0]} of line {line_number} does not rise; two runs were written into one"
        )
    return log


@contextmanager
def whole_frames(path: Path, n_atoms: int) -> Iterator[Path | None]:
    """A file with a plain name that has the whole frames of ``path``; None if there are none.

    Raises
    ------
    InputError
        If the file holds other numbers of atoms, or something that is no frame.
    """
    with plain_name(path) as plain, open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        whole = _whole_xtc(handle, size, n_atoms, path) if path.suffix == ".xtc" else _whole_dcd(handle, n_atoms, path)
        if whole is None:
            yield None
        elif whole == size:
            yield plain
        else:
            with tempfile.TemporaryDirectory() as place:
                copy = Path(place) / f"whole{path.suffix}"
                shutil.copyfile(path, copy)
                os.truncate(copy, whole)
                if path.suffix == ".dcd":
                    repair_dcd_header(copy)
                yield copy


def _whole_xtc(handle: BinaryIO, size: int, n_atoms: int, path: Path) -> int | None:
    """Bytes of the whole frames; None without any."""
    start = 0
    while start + _XTC_HEADER <= size:
        handle.seek(start)
        head = handle.read(_XTC_PACKED)
        magic, atoms = struct.unpack_from(">ii", head)
        if magic != _XTC_MAGIC:
            raise InputError(f"{path}: no frame at byte {start}; the file is damaged from there on")
        if atoms != n_atoms:
            raise InputError(f"{path}: a frame of {atoms} atoms, topology.pdb has {n_atoms}; it is of another molecule")
        if atoms <= _XTC_PLAIN_ATOMS:
            end = start + _XTC_HEADER + 4 + 12 * atoms
        elif len(head) < _XTC_PACKED:
            break
        else:
            (packed,) = struct.unpack_from(">i", head, _XTC_PACKED - 4)
            if packed < 0:
                raise InputError(f"{path}: no frame at byte {start}; the file is damaged from there on")
            end = start + _XTC_PACKED + (packed + 3) // 4 * 4
        if end > size:
            break
        start = end
    return start or None


def _whole_dcd(handle: BinaryIO, n_atoms: int, path: Path) -> int | None:
    """Bytes of header and whole frames; None without any frame."""
    size = os.fstat(handle.fileno()).st_size
    if size < _DCD_HEADER:
        return None
    head = handle.read(_DCD_HEADER)
    (atoms,) = struct.unpack_from("<i", head, _DCD_HEADER - 8)
    if head[4:8] != b"CORD":
        raise InputError(f"{path}: not a DCD file of this package; the file is damaged")
    if atoms != n_atoms:
        raise InputError(f"{path}: frames of {atoms} atoms, topology.pdb has {n_atoms}; it is of another molecule")
    frame = 3 * (4 * n_atoms + 8)
    count = (size - _DCD_HEADER) // frame
    for k in range(count):
        handle.seek(_DCD_HEADER + k * frame)
        if struct.unpack("<i", handle.read(4)) != (4 * n_atoms,):
            raise InputError(f"{path}: frame {k} is damaged")
    return _DCD_HEADER + count * frame if count else None
