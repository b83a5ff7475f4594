"""The potentials that OpenMM itself brings: vacuum, five generalized-Born models, explicit TIP3P.

GB models (OpenMM's ``implicit/*.xml``, NoCutoff, with the ACE surface-area term as OpenMM adds it):
HCT (Hawkins 1996), OBC1 and OBC2 (Onufriev 2004), GBn (Mongan 2007), GBn2 (Nguyen 2013).
Explicit water: TIP3P with PME, 0.9 nm cutoff, rigid molecules.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from openmm import CustomGBForce, HarmonicBondForce, NonbondedForce, System, app

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import solvate
from mlsim.errors import InputError
from mlsim.md.potential import Factory, Potential, PotentialRequest, Sum, without_constrained_bonds

GB_MODELS = ("hct", "obc1", "obc2", "gbn", "gbn2")


@dataclass(frozen=True)
class Vacuum:
    """Molecular-mechanics terms of the solute, no solvent: bonds, angles, torsions, LJ, Coulomb; no cutoff."""

    name: str = "vacuum"

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    def add_to(self, system: System, molecule: Molecule, group: int) -> None:
        """Add all force-field terms; bonds that ``system`` constrains are left out."""
        if molecule.is_periodic:
            raise InputError(f"{molecule.name}: {self.name} expects a molecule without box")
        _add_mm(system, molecule, app.NoCutoff, group)

    def describe(self) -> dict[str, Any]:
        """Name and method."""
        return {"name": self.name, "nonbonded": "NoCutoff"}


@dataclass(frozen=True)
class GeneralizedBorn:
    """The solvation term of one GB model (to be summed with :class:`Vacuum`)."""

    model: str
    slow: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name of the GB model."""
        return self.model

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    def add_to(self, system: System, molecule: Molecule, group: int) -> None:
        """Add OpenMM's ``CustomGBForce`` of this model."""
        full = molecule.system_template(app.NoCutoff, (f"implicit/{self.model}.xml",))
        for force in full.getForces():
            if isinstance(force, CustomGBForce):
                _add(system, copy.deepcopy(force), group)

    def describe(self) -> dict[str, Any]:
        """Name and OpenMM parameter file."""
        return {"name": self.model, "parameters": f"implicit/{self.model}.xml"}


@dataclass(frozen=True)
class ExplicitWater:
    """TIP3P water around the solute, PME electrostatics."""

    padding_nm: float = 0.85
    name: str = "tip3p"

    def prepare(self, molecule: Molecule) -> Molecule:
        """Solvate, unless the molecule comes with its water."""
        return molecule if molecule.is_periodic else solvate(molecule, self.padding_nm)

    def add_to(self, system: System, molecule: Molecule, group: int) -> None:
        """Add all force-field terms of solute and water."""
        if not molecule.is_periodic:
            raise InputError(f"{molecule.name}: tip3p expects a solvated molecule")
        _add_mm(system, molecule, app.PME, group)

    def describe(self) -> dict[str, Any]:
        """Name, padding and method."""
        return {"name": self.name, "padding_nm": self.padding_nm, "nonbonded": "PME, 0.9 nm"}


def _add_mm(system: System, molecule: Molecule, nonbonded: object, group: int) -> None:
    full = molecule.system_template(nonbonded)  # owns its forces: must outlive the loop
    for force in full.getForces():
        if isinstance(force, HarmonicBondForce):
            _add(system, without_constrained_bonds(force, system), group)
        else:
            _add(system, copy.deepcopy(force), group)


def _add(system: System, force: object, group: int) -> None:
    force.setForceGroup(group)  # type: ignore[attr-defined]
    if isinstance(force, NonbondedForce):
        force.setReciprocalSpaceForceGroup(group)
    system.addForce(force)


def _vacuum(argument: str | None, request: PotentialRequest) -> Potential:
    _no_argument("vacuum", argument)
    return Vacuum()


def _tip3p(argument: str | None, request: PotentialRequest) -> Potential:
    _no_argument("tip3p", argument)
    return ExplicitWater()


def _generalized_born(model: str) -> Factory:
    def factory(argument: str | None, request: PotentialRequest) -> Potential:
        _no_argument(model, argument)
        return Sum.of(model, (Vacuum(), GeneralizedBorn(model)))

    return factory


def _no_argument(name: str, argument: str | None) -> None:
    if argument is not None:
        raise InputError(f"solvent '{name}:{argument}': '{name}' takes no argument")


FACTORIES: dict[str, Factory] = {
    "vacuum": _vacuum,
    "tip3p": _tip3p,
    **{model: _generalized_born(model) for model in GB_MODELS},
}
