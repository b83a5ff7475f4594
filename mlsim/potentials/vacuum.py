"""Vacuum: the molecular mechanics of the solute alone, as the force field gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from openmm import System, app

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import add_force_field


@dataclass(frozen=True)
class Vacuum:
    """Molecular-mechanics terms of the solute, no solvent: bonds, angles, torsions, LJ, Coulomb; no cutoff."""

    name: str = "vacuum"
    part: ClassVar[str] = "mechanics"

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add all force-field terms; bonds that ``system`` constrains are left out."""
        if molecule.is_periodic:
            raise InputError(f"{molecule.name}: {self.name} expects a molecule without box")
        add_force_field(system, molecule, app.NoCutoff, placement, self.name)

    def describe(self) -> dict[str, Any]:
        """Name and method."""
        return {"name": self.name, "nonbonded": "NoCutoff"}
