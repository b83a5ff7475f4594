"""Run and Replica: read what a run wrote."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError, MissingError
from mlsim.records import RUN_FILE, RunRecord
from mlsim.runs.trajectory_file import plain_name

if TYPE_CHECKING:
    import mdtraj

COLUMNS = ("step", "time_ps", "potential_kJ_mol", "kinetic_kJ_mol", "temperature_K", "bias_kJ_mol")


@dataclass(frozen=True, eq=False)
class Replica:
    """One trajectory with its log; frame k of one is row k of the other."""

    directory: Path

    @cached_property
    def record(self) -> RunRecord:
        """Contents of its ``run.json``."""
        return RunRecord.read(self.directory)

    @cached_property
    def topology(self) -> mdtraj.Topology:
        """Topology of the solute."""
        import mdtraj

        path = self.directory / "topology.pdb"
        if not path.is_file():
            raise MissingError(f"{path}: no such file; the run directory is incomplete")
        return mdtraj.load_topology(str(path))

    @property
    def trajectory_path(self) -> Path:
        """``trajectory.xtc`` or ``trajectory.dcd``."""
        for suffix in (".xtc", ".dcd"):
            path = self.directory / f"trajectory{suffix}"
            if path.is_file():
                return path
        raise MissingError(f"{self.directory}: no trajectory.xtc or trajectory.dcd")

    @cached_property
    def _log(self) -> dict[str, NDArray[np.float64]]:
        path = self.directory / "log.csv"
        if not path.is_file():
            raise MissingError(f"{path}: no such file; the run directory is incomplete")
        with open(path, newline="") as handle:
            rows = list(csv.reader(handle))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise InputError(f"{path}: expected the columns {','.join(COLUMNS)}")
        whole = [row for row in rows[1:] if len(row) == len(COLUMNS)]  # the last row of a killed run may be cut
        table = np.array(whole, dtype=np.float64).reshape(-1, len(COLUMNS))
        return {name: table[:, k] for k, name in enumerate(COLUMNS)}

    @cached_property
    def _positions(self) -> NDArray[np.float32]:
        import mdtraj

        if self.trajectory_path.stat().st_size == 0:
            return np.zeros((0, self.topology.n_atoms, 3), dtype=np.float32)
        with plain_name(self.trajectory_path) as path:
            positions: NDArray[np.float32] = mdtraj.load(str(path), top=self.topology).xyz
            return positions

    @property
    def n_frames(self) -> int:
        """Frames that have both coordinates and a log row."""
        return min(len(self._positions), len(self._log["step"]))

    def positions(self) -> NDArray[np.float32]:
        """Solute positions, nm [F, N, 3]."""
        return self._positions[: self.n_frames]

    def column(self, name: str) -> NDArray[np.float64]:
        """A column of ``log.csv`` [F]."""
        return self._log[name][: self.n_frames]

    def times_ps(self) -> NDArray[np.float64]:
        """Time of each frame, ps [F]."""
        return self.column("time_ps")

    def potential(self) -> NDArray[np.float64]:
        """Potential energy without bias, kJ/mol [F]."""
        return self.column("potential_kJ_mol")

    def bias(self) -> NDArray[np.float64]:
        """Bias energy, kJ/mol [F] (zeros for an unbiased run)."""
        return self.column("bias_kJ_mol")


def members(directory: Path, kind: Literal["replica", "seed"]) -> list[Path]:
    """Directories ``replica-NN`` or ``seed-NNNN`` of a run that hold a record; a copy by any other name is not one."""
    named = [p for p in directory.glob(f"{kind}-*") if re.fullmatch(rf"{kind}-\d+", p.name)]
    return sorted(p for p in named if (p / RUN_FILE).is_file())


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory: one or several replicas and the record."""

    directory: Path
    record: RunRecord
    replicas: tuple[Replica, ...]

    @classmethod
    def open(cls, directory: str | Path) -> Run:
        """Read a run directory.

        Raises
        ------
        MissingError
            If it is not one.
        """
        directory = Path(directory)
        record = RunRecord.read(directory)
        if record.engine == "held":
            raise MissingError(f"{directory}: no run in it, but labels of held conformations; expected a run directory")
        parts = members(directory, "replica")
        return cls(directory, record, tuple(Replica(p) for p in parts) or (Replica(directory),))

    @property
    def temperature_K(self) -> float:
        """Temperature of the run, K."""
        return self.record.temperature_K

    @property
    def label(self) -> str:
        """Solvent as the user named it."""
        return str(self.record.settings["solvent"])

    @property
    def topology(self) -> mdtraj.Topology:
        """Topology of the solute."""
        return self.replicas[0].topology
