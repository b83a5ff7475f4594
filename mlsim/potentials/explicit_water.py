"""Explicit water: TIP3P with PME, 0.9 nm cutoff, rigid molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from openmm import System, app

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import solvate
from mlsim.errors import InputError
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import add_force_field


@dataclass(frozen=True)
class ExplicitWater:
    """TIP3P water around the solute, PME electrostatics."""

    padding_nm: float = 0.85
    name: str = "tip3p"
    part: ClassVar[str] = "explicit"

    def prepare(self, molecule: Molecule) -> Molecule:
        """Solvate, unless the molecule comes with its water."""
        return molecule if molecule.is_periodic else solvate(molecule, self.padding_nm)

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add all force-field terms of solute and water."""
        if not molecule.is_periodic:
            raise InputError(f"{molecule.name}: tip3p expects a solvated molecule")
        add_force_field(system, molecule, app.PME, placement, self.name)

    def describe(self) -> dict[str, Any]:
        """Name, padding and method."""
        return {"name": self.name, "padding_nm": self.padding_nm, "nonbonded": "PME, 0.9 nm"}
