"""Bias on the backbone torsions: well-tempered metadynamics, or a fixed grid made from an earlier run.

The bias is a sum over residues r of periodic grids V_r(phi_r, psi_r), each one ``CustomCompoundBondForce`` term
over five atoms with a tabulated cubic spline. Well-tempered metadynamics (Barducci, Bussi, Parrinello 2008) adds

    V(s) += h exp(-V(s_t) / (kB T (gamma - 1))) exp(-|s - s_t|^2 / (2 w^2))

every ``interval`` steps; V converges to -(1 - 1/gamma) F(s). A fixed grid never grows, so
frames are reweighted exactly by exp(+V / kT). Under a growing one a frame of time t weighs exp[(V(s, t) - c(t)) / kT]
with the constant of Tiwary and Parrinello (2015),

    c(t) = sum_r kT ln { int exp[gamma V_r / ((gamma - 1) kT)] ds / int exp[V_r / ((gamma - 1) kT)] ds }

which needs the bias of that time. So the heights of all hills and c after each are kept (``HillHistory``), are part of
every checkpoint, and are saved with the final grid.

symbol -> variable: h -> height_kJ_mol, gamma -> bias_factor, w -> width_rad, s -> (phi, psi), V -> grid, c -> offset.

Why not ``openmm.app.Metadynamics``: it goes through CustomCVForce, which keeps a second Context and doubles the
cost of a peptide step; its state (hills, an unseeded random id, files shared through a directory) is not part of
any checkpoint, so a run cannot be resumed bit for bit.
A bias on the solute leaves the distribution of the solvent at fixed solute unchanged, so force labels taken in a
biased run need no reweighting (the bias force itself is not in the label).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Continuous2DFunction, CustomCompoundBondForce, System

from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.errors import InputError
from mlsim.files import write_npz
from mlsim.records import digest_of
from mlsim.runs.bias_file import HillHistory, SavedBias
from mlsim.units import kT

#: Force group of the bias, apart from the physical forces (group 0).
BIAS_GROUP = 30
#: Grid points per angle without the repeated end point.
GRID_POINTS = 72


@dataclass(frozen=True)
class Tempering:
    """How a well-tempered bias grows."""

    height_kJ_mol: float = 1.0
    width_rad: float = 0.35
    bias_factor: float = 6.0
    interval_steps: int = 500


class DihedralBias:
    """The bias of one run: puts its force into a System, and (if it grows) deposits hills as an observer.

    Parameters
    ----------
    molecule : Molecule
        The solute, or the solvated molecule (its torsions are those of the solute).
    temperature_K : float
    grid : float64 [R, G, G], kJ/mol, or None
        Start values, axes (residue, phi, psi), point g at -pi + 2 pi g / G; zero if None.
    tempering : Tempering or None
        ``None`` keeps the grid fixed.
    """

    name = "bias"

    def __init__(
        self,
        molecule: Molecule,
        temperature_K: float,
        grid: NDArray[np.float64] | None = None,
        tempering: Tempering | None = None,
    ) -> None:
        self.labels, self._atoms = ramachandran_atoms(molecule)
        residues = len(self.labels)
        if grid is None:
            grid = np.zeros((residues, GRID_POINTS, GRID_POINTS))
        if grid.ndim != 3 or grid.shape[0] != residues or grid.shape[1] != grid.shape[2]:
            raise InputError(
                f"bias grid: expected shape [{residues}, G, G] for {', '.join(self.labels)}, got {list(grid.shape)}"
            )
        self.grid = np.array(grid, dtype=np.float64)
        self.tempering = tempering
        self._temperature_K = temperature_K
        self._forces: list[CustomCompoundBondForce] = []
        self._known: HillHistory | None = HillHistory.empty(residues)  # None: resumed from a checkpoint without one
        self._hills: list[tuple[int, list[float], float]] = []

    # ---- force ----

    def add_to(self, system: System, copies: int = 1) -> None:
        """Add the bias force (group ``BIAS_GROUP``), on each of ``copies`` equal shares of the particles."""
        self._forces = []
        apart = system.getNumParticles() // copies
        for atoms, grid in zip(self._atoms, self.grid, strict=True):
            phi, psi = atoms
            force = CustomCompoundBondForce(5, "bias(dihedral(p1, p2, p3, p4), dihedral(p2, p3, p4, p5))")
            points = grid.shape[0] + 1
            table = Continuous2DFunction(points, points, _wrapped(grid), -np.pi, np.pi, -np.pi, np.pi, True)
            force.addTabulatedFunction("bias", table)
            for first in range(0, copies * apart, apart):
                force.addBond([first + int(a) for a in (*phi, psi[3])], [])
            force.setForceGroup(BIAS_GROUP)
            force.setName("DihedralBias")
            system.addForce(force)
            self._forces.append(force)

    def energy(self, context: Context) -> float:
        """Bias energy at the present positions, kJ/mol."""
        return float(context.getState(getEnergy=True, groups={BIAS_GROUP}).getPotentialEnergy()._value)

    def angles(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(phi, psi) of every biased residue, rad: [..., R, 2]."""
        flat = dihedrals(positions, self._atoms.reshape(-1, 4))
        return flat.reshape(*flat.shape[:-1], -1, 2)

    # ---- observer ----

    @property
    def interval(self) -> int:
        """Steps between hills (0: the bias does not grow)."""
        return self.tempering.interval_steps if self.tempering else 0

    def open(self, directory: Path) -> tuple[()]:
        """No output of its own; the grid is saved at the end and in every checkpoint."""
        return ()

    def observe(self, step: int, context: Context) -> None:
        """Deposit one hill per residue at the present angles."""
        if self.tempering is None:
            return
        positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        heights = [self._deposit(r, float(phi), float(psi)) for r, (phi, psi) in enumerate(self.angles(positions))]
        self._hills.append((step, heights, self.offset()))
        self._upload(context)

    def state(self) -> dict[str, NDArray[Any]]:
        """The grid, and of a growing bias its history."""
        history = self.history
        return {"grid": self.grid, **(history.arrays() if self.tempering is not None and history is not None else {})}

    def restore(self, arrays: dict[str, NDArray[Any]], context: Context) -> None:
        """Take up a checkpointed grid and its history."""
        self.grid = np.array(arrays["grid"])
        self._known, self._hills = HillHistory.read(arrays), []
        self._upload(context)

    @property
    def history(self) -> HillHistory | None:
        """Hills so far; None if an older version, which kept none, began the run."""
        if self._known is None or not self._hills:
            return self._known
        steps, heights, offsets = zip(*self._hills, strict=True)
        self._known = HillHistory(
            np.concatenate([self._known.step, np.array(steps, dtype=np.int64)]),
            np.concatenate([self._known.height, np.array(heights)]),
            np.concatenate([self._known.offset, np.array(offsets)]),
        )
        self._hills = []
        return self._known

    def offset(self) -> float:
        """c(t) of the present grid, kJ/mol (0 for one that does not grow)."""
        if self.tempering is None:
            return 0.0
        return offset_of(self.grid, self.tempering.bias_factor, self._temperature_K)

    def _deposit(self, residue: int, phi: float, psi: float) -> float:
        """Add one hill; its height, kJ/mol."""
        assert self.tempering is not None
        grid = self.grid[residue]
        here = _interpolate(grid, phi, psi)
        scale = kT(self._temperature_K) * (self.tempering.bias_factor - 1.0)
        height = self.tempering.height_kJ_mol * np.exp(-here / scale)
        grid += height * np.outer(self._bump(phi, grid.shape[0]), self._bump(psi, grid.shape[1]))
        return float(height)

    def _bump(self, centre: float, points: int) -> NDArray[np.float64]:
        assert self.tempering is not None
        axis = -np.pi + 2 * np.pi * np.arange(points) / points
        distance = (axis - centre + np.pi) % (2 * np.pi) - np.pi
        return np.exp(-0.5 * (distance / self.tempering.width_rad) ** 2)

    def _upload(self, context: Context) -> None:
        for force, grid in zip(self._forces, self.grid, strict=True):
            points = grid.shape[0] + 1
            force.getTabulatedFunction(0).setFunctionParameters(
                points, points, _wrapped(grid), -np.pi, np.pi, -np.pi, np.pi
            )
            force.updateParametersInContext(context)

    # ---- files ----

    def describe(self) -> dict[str, Any]:
        """JSON-able record: the growth, or the digest of a fixed grid."""
        if self.tempering is not None:
            return {"kind": "well-tempered metadynamics", **asdict(self.tempering)}
        return {"kind": "fixed grid", "sha256": digest_of(self.grid.tobytes())}

    def save(self, path: Path) -> None:
        """Write the grid, how it was made, and the history of one that grew (``.npz``), whole or not at all."""
        factor = self.tempering.bias_factor if self.tempering else np.nan
        history = self.history if self.tempering is not None else None
        arrays: dict[str, Any] = {
            "grid": self.grid,
            "residues": np.array(self.labels),
            "bias_factor": factor,
            "temperature_K": self._temperature_K,
            **({} if history is None else history.arrays()),
        }
        write_npz(path, arrays)


def load_grid(path: Path) -> NDArray[np.float64]:
    """Read a grid [R, G, G], kJ/mol, written by :meth:`DihedralBias.save`.

    Raises
    ------
    MissingError, InputError
        No such file, or not a bias file.
    """
    return SavedBias.load(path).grid


def offset_of(grid: NDArray[np.float64], bias_factor: float, temperature_K: float) -> float:
    """c(t) of a well-tempered bias [R, ...] (one grid for each residue), kJ/mol: the sum over residues."""
    unit = kT(temperature_K)
    flat = grid.reshape(len(grid), -1) / (unit * (bias_factor - 1.0))
    return float(unit * (_log_mean_exp(bias_factor * flat) - _log_mean_exp(flat)).sum())


def _log_mean_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln of the mean of exp along the last axis."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(values - top).mean(axis=-1)))


def _wrapped(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flattened table with the end points repeated; phi runs fastest, as OpenMM asks."""
    closed: NDArray[np.float64] = np.pad(grid, ((0, 1), (0, 1)), mode="wrap")
    flat: NDArray[np.float64] = closed.T.ravel()
    return flat


def _interpolate(grid: NDArray[np.float64], phi: float, psi: float) -> float:
    """Bilinear value on the periodic grid (enough to scale a hill)."""
    points = grid.shape[0]
    u, v = ((angle + np.pi) / (2 * np.pi) * points for angle in (phi, psi))
    i, j = int(np.floor(u)), int(np.floor(v))
    a, b = u - i, v - j
    i0, i1, j0, j1 = i % points, (i + 1) % points, j % points, (j + 1) % points
    value = (1 - a) * ((1 - b) * grid[i0, j0] + b * grid[i0, j1]) + a * ((1 - b) * grid[i1, j0] + b * grid[i1, j1])
    return float(value)
