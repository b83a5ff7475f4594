"""Append-only output files that can be cut back to a checkpoint.

Every output of a run only grows, frame by frame, and its size at a checkpoint is stored in that checkpoint.
Resuming truncates each file to that size, so nothing is doubled and nothing written before the checkpoint is lost.
OpenMM's reporters append without truncating: after a crash the frames newer than the checkpoint would be there twice.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import CheckpointError, StorageError
from mlsim.files import open_own

#: Names that outputs have, as patterns: what a checkpoint may cut back, and nothing else.
STREAMS = ("*.xtc", "*.dcd", "*.csv", "*.f32", "*.f64")
#: Bytes of a DCD file before its first frame, and the most that the header of a table takes.
_DCD_HEADER, _TABLE_HEADER = 276, 65_536


def holds_nothing(path: Path) -> bool:
    """Whether an output has no record in it yet: no frame, no row below the header (true of every other file)."""
    size = path.stat().st_size
    if path.suffix == ".csv":
        return size <= _TABLE_HEADER and path.read_bytes().count(b"\n") <= 1
    if path.suffix == ".dcd":
        return size <= _DCD_HEADER
    return size == 0 or path.suffix not in (".xtc", ".f32", ".f64")


class Stream:
    """A file that grows by whole records."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sync(self) -> int:
        """Bring everything to disk; return the size in bytes."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Release the file."""


def require_length(path: Path, size: int) -> None:
    """Refuse an output that is shorter than its checkpoint says.

    Raises
    ------
    CheckpointError
        If the file is missing or has less than ``size`` bytes.
    """
    present = path.stat().st_size if path.is_file() else -1
    if present < size:
        found = "no such file" if present < 0 else f"{present} bytes"
        raise CheckpointError(
            f"{path}: the checkpoint expects at least {size} bytes, got {found}; restore the file or start a new run"
        )


def cut_back(path: Path, size: int) -> None:
    """Truncate ``path`` to ``size`` bytes; errors as :func:`require_length`."""
    require_length(path, size)
    with open_own(path, "r+b") as handle:
        handle.truncate(size)


def cut_all_back(directory: Path, sizes: Mapping[str, int]) -> None:
    """Truncate every output below ``directory`` to its size at a checkpoint; all of them or none.

    Raises
    ------
    CheckpointError
        As :func:`cut_back`, or for a name that no output has or that leads out of ``directory``: a checkpoint that came
        from elsewhere must not touch other files.
    """
    inside = directory.resolve()
    for name in sizes:
        path = directory / name
        ours = any(path.match(pattern) for pattern in STREAMS) and sizes[name] >= 0
        if not ours or path.is_symlink() or inside not in path.resolve().parents:
            raise CheckpointError(f"{directory}: the checkpoint names {name!r}, which is no output of this run")
    for name, size in sizes.items():
        require_length(directory / name, size)
    for name, size in sizes.items():
        cut_back(directory / name, size)
        if name.endswith(".dcd"):
            repair_dcd_header(directory / name)


class _HeldStream(Stream):
    """A file held open for the life of the run."""

    _file: IO[Any]

    def sync(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        found = os.fstat(self._file.fileno())
        if found.st_nlink == 0:
            raise StorageError(f"{self.path}: was removed while it was written; what was in it is lost, start again")
        return found.st_size

    def close(self) -> None:
        self._file.close()


class RecordStream(_HeldStream):
    """Fixed-size rows of numbers: raw little-endian ``dtype``, C order."""

    def __init__(self, path: Path, dtype: str = "<f4") -> None:
        super().__init__(path)
        self._dtype = np.dtype(dtype)
        self._file = open_own(path, "ab")

    def append(self, row: NDArray[np.float64]) -> None:
        """Write one record."""
        self._file.write(np.ascontiguousarray(row, dtype=self._dtype).tobytes())


class TableStream(_HeldStream):
    """CSV with a header line."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path)
        self._file = io.TextIOWrapper(open_own(path, "ab"), encoding="utf-8", newline="\n")
        if path.stat().st_size == 0:
            self._file.write(",".join(columns) + "\n")

    def append(self, row: Sequence[float]) -> None:
        """Write one row; whole numbers without a decimal point, others with 10 significant digits."""
        self._file.write(",".join(str(v) if isinstance(v, int) else f"{v:.10g}" for v in row) + "\n")


def repair_dcd_header(path: Path) -> None:
    """Make the frame count in a DCD header agree with the file's (truncated) length."""
    size = path.stat().st_size
    if size < 276:
        return
    with open_own(path, "r+b") as handle:
        head = handle.read(276)
        (n_atoms,) = struct.unpack_from("<i", head, 268)
        count = (size - 276) // (3 * (4 * n_atoms + 8))
        handle.seek(8)
        handle.write(struct.pack("<i", count))
        handle.seek(20)
        handle.write(struct.pack("<i", count))
