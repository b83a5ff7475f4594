"""StabilityCheck: ends a run whose numbers can no longer be trusted, and says where it broke.

Checked at every report: finite energy and positions, instantaneous temperature below a limit, no jump of the
potential energy. OpenMM itself notices only NaN positions, one evaluation later, and accepts a NaN energy.

The allowed jump between two reports is kT (30 + 10 sqrt(d) + d), d degrees of freedom: more than ten standard
deviations of a canonical energy plus the rise after minimisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import Context, OpenMMException, System, app, unit

from mlsim.errors import UnphysicalError
from mlsim.files import replacing
from mlsim.potentials import callback
from mlsim.units import GAS_CONSTANT, kT


@dataclass(frozen=True)
class Snapshot:
    """Energies and positions at a report."""

    step: int
    potential: float
    kinetic: float
    positions: NDArray[np.float64]


class StabilityCheck:
    """Watches snapshots; remembers the last good one.

    Parameters
    ----------
    topology : openmm.app.Topology
        To name the worst atom.
    degrees_of_freedom : int
    temperature_K, limit_K : float
        Target temperature and the runaway limit, K.
    """

    def __init__(self, topology: app.Topology, degrees_of_freedom: int, temperature_K: float, limit_K: float) -> None:
        self._topology = topology
        self._dof = degrees_of_freedom
        self._limit_K = limit_K
        self._jump = kT(temperature_K) * (30.0 + 10.0 * np.sqrt(degrees_of_freedom) + degrees_of_freedom)
        self.last_good: Snapshot | None = None
        self.start: tuple[int, NDArray[np.float64]] | None = None

    def begin_at(self, step: int, positions: NDArray[np.float64]) -> None:
        """Where the run stands before its first report: kept as the last good state until there is a better one.

        Parameters
        ----------
        positions : float64 [N, 3], nm
            Minimised, or those of a checkpoint.
        """
        self.start = (step, positions)

    def last_state(self) -> tuple[int, NDArray[np.float64]] | None:
        """Step and positions [N, 3] (nm) of the last good state; None before there is a start."""
        return self.start if self.last_good is None else (self.last_good.step, self.last_good.positions)

    def temperature(self, kinetic: float) -> float:
        """Instantaneous temperature, K, of a kinetic energy in kJ/mol."""
        return 2.0 * kinetic / (self._dof * GAS_CONSTANT)

    def accept(self, snapshot: Snapshot) -> None:
        """Accept a snapshot or raise.

        Raises
        ------
        UnphysicalError
        """
        reason = self._reason(snapshot)
        if reason is not None:
            raise UnphysicalError(f"step {snapshot.step}: {reason}")
        self.last_good = snapshot

    def _reason(self, snapshot: Snapshot) -> str | None:
        if not np.isfinite(snapshot.potential) or not np.isfinite(snapshot.positions).all():
            return "energy or positions are not finite"
        temperature = self.temperature(snapshot.kinetic)
        if not temperature < self._limit_K:
            return f"temperature {temperature:.0f} K is above the runaway limit of {self._limit_K:.0f} K"
        if self.last_good is not None and snapshot.potential - self.last_good.potential > self._jump:
            rise = snapshot.potential - self.last_good.potential
            return f"potential energy rose by {rise:.0f} kJ/mol since the last report (limit {self._jump:.0f})"
        return None

    def worst_atom(self, context: Context) -> str:
        """The atom that is not finite, or feels the largest force, as ``residue-name (force)``.

        ``context`` may hold several copies of the molecule; the copy is named then. Where every position is lost, the
        forces at the last good state are looked at: one copy's, if several were lost together.
        """
        atoms = list(self._topology.atoms())
        positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value

        def name(k: int) -> str:
            copy = f"copy {k // len(atoms)}, " if len(positions) > len(atoms) else ""
            return copy + _name(atoms[k % len(atoms)])

        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        where, last = "", self.last_state()
        if 0 < len(bad) < len(positions) or (len(bad) and last is None):
            return f"{name(int(bad[0]))} (position not finite)"
        if len(bad) and last is not None:
            context.setPositions(np.tile(last[1], (len(positions) // len(last[1]), 1)))
            where = f" at step {last[0]}"
        try:
            forces = context.getState(getForces=True).getForces(asNumpy=True)._value
        except OpenMMException:
            callback.take()
            return "unknown (forces cannot be evaluated)"
        size = np.linalg.norm(np.nan_to_num(forces, nan=np.inf), axis=1)
        k = int(size.argmax())
        return f"{name(k)} (force {size[k]:.3g} kJ/mol/nm{where})"

    def save_last_good(self, path: Path) -> int | None:
        """Write the last good positions as PDB; their step, or None if there were none."""
        last = self.last_state()
        if last is None:
            return None
        with replacing(path) as partial, open(partial, "w") as handle:
            app.PDBFile.writeFile(self._topology, last[1] * unit.nanometer, handle, keepIds=True)
        return last[0]


def _name(atom: app.topology.Atom) -> str:
    return f"{atom.residue.name}{atom.residue.index + 1}-{atom.name}"


def degrees_of_freedom(system: System) -> int:
    """3 N (massive particles) minus constraints; no centre-of-mass removal is used."""
    massive = sum(1 for k in range(system.getNumParticles()) if system.getParticleMass(k)._value > 0)
    return 3 * massive - system.getNumConstraints()


def broken(error: OpenMMException, where: str) -> UnphysicalError:
    """What an exception of OpenMM out of a step means: the exception of a callback, if there was one.

    Raises
    ------
    BaseException
        The callback's own, if it is no failure of numbers (Ctrl-C, a programming error).
    """
    original = callback.take()
    if original is not None and not isinstance(original, ArithmeticError):
        raise original from None
    found = UnphysicalError(f"{where}: {original or error}")
    found.__cause__ = original or error
    return found
