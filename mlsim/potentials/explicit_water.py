"""Explicit water of any model by name (:mod:`mlsim.chem.solvent`): PME, 0.9 nm cutoff, rigid molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from openmm import System, app

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import WATERS, solvate
from mlsim.chem.templates import PROTEIN_FORCE_FIELD
from mlsim.errors import InputError
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import add_force_field


@dataclass(frozen=True)
class ExplicitWater:
    """Water around the solute, PME electrostatics.

    Attributes
    ----------
    padding_nm : float
        Least distance from the solute to the box face, nm.
    ions : {"neutralise", "none"}
        Counter-ions for a charged solute, or the uniform background of PME (infinite dilution).
    equilibration_ps : float or None
        Length of the constant-pressure run that settles the size of the box; None: that of :mod:`mlsim.md.prepare`.
    name : str
        Name of the water model.
    """

    padding_nm: float = 0.85
    ions: Literal["neutralise", "none"] = "neutralise"
    equilibration_ps: float | None = None
    name: str = "tip3p"
    part: ClassVar[str] = "explicit"

    @property
    def force_field(self) -> tuple[str, ...]:
        """Force-field files of solute and water."""
        return (PROTEIN_FORCE_FIELD, WATERS.get(self.name).force_field)

    def prepare(self, molecule: Molecule) -> Molecule:
        """Solvate, unless the molecule comes with its water."""
        if molecule.is_periodic:
            return molecule
        return solvate(molecule, self.padding_nm, water=self.name, neutralise=self.ions == "neutralise")

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add all force-field terms of solute and water."""
        if not molecule.is_periodic:
            raise InputError(f"{molecule.name}: {self.name} expects a solvated molecule")
        add_force_field(system, molecule, app.PME, placement, self.name)

    def describe(self) -> dict[str, Any]:
        """Name, padding and method; water and ions only where they differ, so that earlier runs keep their identity."""
        record = {"name": self.name, "padding_nm": self.padding_nm, "nonbonded": "PME, 0.9 nm"}
        if self.name != "tip3p":
            record["water"] = WATERS.get(self.name).force_field
        return record if self.ions == "neutralise" else {**record, "ions": self.ions}
