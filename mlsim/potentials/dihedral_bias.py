"""Bias on the backbone torsions: well-tempered metadynamics, or a fixed grid made from an earlier run.

The bias is a sum over residues r of periodic grids V_r(phi_r, psi_r), each one ``CustomCompoundBondForce`` term
over five atoms with a tabulated cubic spline. How it grows: :mod:`mlsim.potentials.biases.grid_bias`.

Why not ``openmm.app.Metadynamics``: it goes through CustomCVForce, which keeps a second Context and doubles the
cost of a peptide step; its state (hills, an unseeded random id, files shared through a directory) is not part of
any checkpoint, so a run cannot be resumed bit for bit.
A bias on the solute leaves the distribution of the solvent at fixed solute unchanged, so force labels taken in a
biased run need no reweighting (the bias force itself is not in the label).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import CustomCompoundBondForce, System

from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.errors import InputError
from mlsim.potentials.biases.grid_bias import BIAS_GROUP, GridBias, Tempering, offset_of, table_of
from mlsim.records import digest_of
from mlsim.runs.bias_file import SavedBias
from mlsim.runs.coordinate import CIRCLE

#: Grid points per angle without the repeated end point.
GRID_POINTS = 72

__all__ = ["BIAS_GROUP", "GRID_POINTS", "DihedralBias", "Tempering", "load_grid", "offset_of"]


class DihedralBias(GridBias):
    """The bias of one run on its backbone torsions.

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
        width = tempering.width_rad if tempering else np.nan
        super().__init__((CIRCLE, CIRCLE), grid, temperature_K, tempering, (width, width))

    def add_to(self, system: System, copies: int = 1) -> None:
        """Add the bias force (group ``BIAS_GROUP``), on each of ``copies`` equal shares of the particles."""
        self._forces = []
        apart = system.getNumParticles() // copies
        for atoms, grid in zip(self._atoms, self.grid, strict=True):
            phi, psi = atoms
            force = CustomCompoundBondForce(5, "bias(dihedral(p1, p2, p3, p4), dihedral(p2, p3, p4, p5))")
            force.addTabulatedFunction("bias", table_of(grid, self.axes))
            for first in range(0, copies * apart, apart):
                force.addBond([first + int(a) for a in (*phi, psi[3])], [])
            force.setForceGroup(BIAS_GROUP)
            force.setName("DihedralBias")
            system.addForce(force)
            self._forces.append(force)

    def angles(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(phi, psi) of every biased residue, rad: [..., R, 2]."""
        flat = dihedrals(positions, self._atoms.reshape(-1, 4))
        return flat.reshape(*flat.shape[:-1], -1, 2)

    def values(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(phi, psi) of every biased residue, rad: [R, 2]."""
        return self.angles(positions)

    def describe(self) -> dict[str, Any]:
        """JSON-able record: the growth, or the digest of a fixed grid."""
        if self.tempering is not None:
            return {"kind": "well-tempered metadynamics", **asdict(self.tempering)}
        return {"kind": "fixed grid", "sha256": digest_of(self.grid.tobytes())}

    def saved(self) -> SavedBias:
        """What its file says."""
        grown = self.tempering is not None
        return SavedBias(self.grid, self.labels, grown, self.history if grown else None)


def load_grid(path: Path) -> NDArray[np.float64]:
    """Read a grid [R, G, G], kJ/mol, that a bias on the backbone torsions saved.

    Raises
    ------
    MissingError, InputError
        No such file, not a bias file, or one of a bias on other variables.
    """
    saved = SavedBias.load(path)
    if saved.variables:
        raise InputError(f"{path}: a bias on {' '.join(saved.variables)}; expected one on the backbone torsions")
    return saved.grid
