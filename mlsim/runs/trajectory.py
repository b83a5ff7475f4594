"""Run and Replica: read what a run wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError, MissingError
from mlsim.records import RUN_FILE, RunRecord
from mlsim.runs.trajectory_file import UNREADABLE, plain_name
from mlsim.runs.whole_frames import read_log, whole_frames

if TYPE_CHECKING:
    import mdtraj

#: Columns that are numbers in every run; kinetic energies are not known of all engines.
_NUMBERS = ("step", "time_ps", "potential_kJ_mol", "bias_kJ_mol")
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
        try:
            lines = path.read_bytes().decode("ascii").splitlines()  # first, as mdtraj leaves what it cannot read open
            if not any(line.startswith(("ATOM", "HETATM")) for line in lines):
                raise ValueError("no atoms")
            with plain_name(path) as plain:
                found = mdtraj.load_topology(str(plain))
        except UNREADABLE as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}); restore it, or leave this run out") from None
        expected = self.record.molecule.solute_atoms if self.record.molecule is not None else found.n_atoms
        if found.n_atoms != expected or not expected:
            raise InputError(f"{path}: {found.n_atoms} atoms, {RUN_FILE} says {expected}; it is of another molecule")
        return found

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
        return read_log(self.directory / "log.csv", COLUMNS, _NUMBERS)

    @cached_property
    def _positions(self) -> NDArray[np.float32]:
        import mdtraj

        path, topology = self.trajectory_path, self.topology
        with whole_frames(path, topology.n_atoms) as whole:
            if whole is None:
                return np.zeros((0, topology.n_atoms, 3), dtype=np.float32)
            try:
                found: NDArray[np.float32] = mdtraj.load(str(whole), top=topology).xyz
            except UNREADABLE as error:
                raise InputError(f"{path}: damaged ({type(error).__name__}); leave this run out") from None
        if not np.isfinite(found).all():
            raise InputError(f"{path}: holds positions that are not finite; the file is damaged")
        return found

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
        if record.engine == "exchange" and record.state is None:
            raise MissingError(
                f"{directory}: a replica exchange, one run per temperature; name one of them, e.g. {directory}/state-00"
            )
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
