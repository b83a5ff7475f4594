"""Trajectory files of a running simulation, written through OpenMM's XTC and DCD writers."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from openmm import app, unit

from mlsim.errors import StorageError
from mlsim.files import open_own
from mlsim.runs.streams import Stream


class CoordinateStream(Stream):
    """XTC or DCD of the solute through OpenMM's writers, chosen by the suffix; frame ``k`` is at ``k * frame_ps``.

    Positions are whole molecules, so no box is written. The writers count frames, not integration steps: XTC's
    32-bit step field would otherwise overflow after 2^31 steps and force a rewrite of the file.
    """

    def __init__(self, path: Path, topology: app.Topology, frame_ps: float) -> None:
        super().__init__(path)
        with open_own(path, "ab"):  # there, and no link: the writer of XTC opens it by name
            append = path.stat().st_size > 0
        self._handle: BinaryIO | None = None
        self._writer: app.XTCFile | app.DCDFile
        if path.suffix == ".xtc":
            self._writer = app.XTCFile(str(path), topology, frame_ps * unit.picosecond, 1, 1, append)
        else:
            self._handle = open_own(path, "r+b" if append else "w+b")
            self._writer = app.DCDFile(self._handle, topology, frame_ps * unit.picosecond, 1, 1, append)

    def append(self, positions: NDArray[np.float64]) -> None:
        """Write one frame; ``positions`` [n, 3], nm.

        Raises
        ------
        StorageError
            If the file did not grow (XTC is written by C code that does not report a full disk).
        """
        before = self.path.stat().st_size
        self._writer.writeModel(positions * unit.nanometer)
        if self._handle is None and self.path.stat().st_size <= before:
            raise StorageError(f"{self.path}: a frame could not be written; is the disk full?")

    def sync(self) -> int:
        if self._handle is not None:
            self._handle.flush()
        return super().sync()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
