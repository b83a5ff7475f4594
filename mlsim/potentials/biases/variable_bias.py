"""Bias on one or two collective variables of choice: one force with a tabulated cubic spline of their formulas.

    V(x) = table(s_1(x), s_2(x)),      s = formula of centres of mass of groups of atoms (:mod:`mlsim.runs.coordinate`)

One ``CustomCentroidBondForce`` holds the table and the formulas, so that a bias costs no second Context (that of
CustomCVForce doubles the cost of a peptide's step). Beyond the range of a variable that is not periodic the bias is
constant and no hill is put there, as with the intervals of metadynamics in other programs. How it grows:
:mod:`mlsim.potentials.biases.grid_bias`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import Context, CustomCentroidBondForce, OpenMMException, Platform, System, VerletIntegrator

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.potentials.biases.grid_bias import BIAS_GROUP, GridBias, Tempering, table_of
from mlsim.records import digest_of
from mlsim.runs.bias_file import SavedBias
from mlsim.runs.coordinate import Coordinate

#: Grid points per standard deviation of a hill, and the least and most of an axis.
_PER_WIDTH, _LEAST, _MOST = 4, 36, 720
#: A centre in a formula (``g2``), or one of its Cartesian coordinates (``z2``).
_CENTRE = re.compile(r"\b([gxyz])(\d+)\b")


class VariableBias(GridBias):
    """The bias of one run on collective variables.

    Parameters
    ----------
    molecule : Molecule
        The solute, or the solvated molecule (solute atoms first).
    coordinates : sequence of Coordinate
        One or two.
    temperature_K : float
    grid : float64 [G] or [G, H], kJ/mol, or None
        Start values; zero if None.
    tempering : Tempering or None
        ``None`` keeps the grid fixed. Hills have the widths of the coordinates.

    Raises
    ------
    InputError
        If a formula cannot be read, or the grid has not one axis for each coordinate.
    """

    def __init__(
        self,
        molecule: Molecule,
        coordinates: Sequence[Coordinate],
        temperature_K: float,
        grid: NDArray[np.float64] | None = None,
        tempering: Tempering | None = None,
    ) -> None:
        self.coordinates = tuple(coordinates)
        if grid is None:
            grid = np.zeros([_count(coordinate) for coordinate in self.coordinates])
        if grid.ndim != len(self.coordinates) or not 1 <= grid.ndim <= 2:
            names = " ".join(coordinate.name for coordinate in self.coordinates)
            raise InputError(f"bias on {names}: expected a grid with an axis for each, got {list(grid.shape)}")
        self._masses = molecule.masses
        axes = tuple(coordinate.axis for coordinate in self.coordinates)
        widths = [coordinate.width for coordinate in self.coordinates]
        super().__init__(axes, grid[None], temperature_K, tempering, widths)
        self._alone = self._context()

    def add_to(self, system: System, copies: int = 1) -> None:
        """Add the bias force (group ``BIAS_GROUP``), on each of ``copies`` equal shares of the particles."""
        formulas, groups = _joined(self.coordinates)
        arguments = ", ".join(f"s{k}" for k in range(1, len(formulas) + 1))
        parts = [f"bias({arguments})"]
        for k, (formula, axis) in enumerate(zip(formulas, self.axes, strict=True), start=1):
            inside = formula if axis.periodic else f"min(max({formula}, {float(axis.low)!r}), {float(axis.high)!r})"
            parts.append(f"s{k}={inside}")
        force = CustomCentroidBondForce(len(groups), "; ".join(parts))
        force.addTabulatedFunction("bias", table_of(self.grid[0], self.axes))
        apart = system.getNumParticles() // copies
        for first in range(0, copies * apart, apart):
            force.addBond([force.addGroup([first + a for a in g], list(self._masses[list(g)])) for g in groups], [])
        force.setForceGroup(BIAS_GROUP)
        force.setName("VariableBias")
        system.addForce(force)
        self._forces = [force]

    def values(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Collective variables [1, D] at positions [N, 3] (nm)."""
        self._alone.setPositions(positions[: len(self._masses)])
        states = [self._alone.getState(getEnergy=True, groups={k}) for k in range(len(self.coordinates))]
        return np.array([[state.getPotentialEnergy()._value for state in states]])

    def describe(self) -> dict[str, Any]:
        """JSON-able record: the variables, and the growth or the digest of a fixed grid."""
        variables = [{**asdict(c), "groups": [list(g) for g in c.groups]} for c in self.coordinates]
        if self.tempering is not None:
            growth = {k: v for k, v in asdict(self.tempering).items() if k != "width_rad"}
            return {"kind": "well-tempered metadynamics", **growth, "variables": variables}
        return {"kind": "fixed grid", "sha256": digest_of(self.grid.tobytes()), "variables": variables}

    def saved(self) -> SavedBias:
        """What its file says."""
        grown, names = self.tempering is not None, tuple(coordinate.name for coordinate in self.coordinates)
        return SavedBias(self.grid, (" ".join(names),), grown, self.history if grown else None, names, self.axes)

    def _context(self) -> Context:
        """The variables by themselves: the energy of force group k is variable k."""
        system = System()
        for mass in self._masses:
            system.addParticle(mass)
        for k, coordinate in enumerate(self.coordinates):
            (formula,), groups = _joined([coordinate])
            force = CustomCentroidBondForce(len(groups), formula)
            force.addBond([force.addGroup(list(g), list(self._masses[list(g)])) for g in groups], [])
            force.setForceGroup(k)
            system.addForce(force)
        try:
            return Context(system, VerletIntegrator(1e-3), Platform.getPlatformByName("Reference"))
        except OpenMMException as error:
            names = " ".join(coordinate.name for coordinate in self.coordinates)
            raise InputError(f"bias on {names}: its formula cannot be used ({error})") from None


def _joined(coordinates: Sequence[Coordinate]) -> tuple[list[str], list[tuple[int, ...]]]:
    """Formulas of all coordinates over one list of groups."""
    formulas: list[str] = []
    groups: list[tuple[int, ...]] = []
    for coordinate in coordinates:
        shift = len(groups)
        formulas.append(_CENTRE.sub(partial(_renumbered, shift), coordinate.formula))
        groups += coordinate.groups
    return formulas, groups


def _renumbered(shift: int, found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) + shift}"


def _count(coordinate: Coordinate) -> int:
    wanted = int(np.ceil(_PER_WIDTH * coordinate.axis.span / coordinate.width)) + 1
    return int(np.clip(wanted, _LEAST, _MOST))
