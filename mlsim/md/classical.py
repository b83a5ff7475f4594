"""The potentials that OpenMM itself brings: vacuum, five generalized-Born models, explicit TIP3P.

GB models (OpenMM's ``implicit/*.xml``, NoCutoff, with the ACE surface-area term as OpenMM adds it):
HCT (Hawkins 1996), OBC1 and OBC2 (Onufriev 2004), GBn (Mongan 2007), GBn2 (Nguyen 2013).

Why OBC2 is not taken as the file gives it: the file writes every model as a ``CustomGBForce``, whose formulas OpenMM
interprets. OBC2 is also there as ``GBSAOBCForce``, written by hand: with the same parameters the same energies and
forces (to 1e-7) and steps 6 times as fast (``benchmarks.md_speed``). The other four exist in the general form only.

Explicit water: TIP3P with PME, 0.9 nm cutoff, rigid molecules.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from openmm import CustomGBForce, Force, GBSAOBCForce, HarmonicBondForce, NonbondedForce, System, app

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import solvate
from mlsim.errors import InputError
from mlsim.md.potential import Factory, Potential, PotentialRequest, Sum, without_constrained_bonds

GB_MODELS = ("hct", "obc1", "obc2", "gbn", "gbn2")
#: Of OpenMM's parameter file for OBC2: dielectric constant of water, and what is taken off the radii, nm.
_DIELECTRIC, _OFFSET_NM = 78.5, 0.009


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
        """Add the force of this model: ``GBSAOBCForce`` for OBC2, else OpenMM's ``CustomGBForce``."""
        general = general_form(self.model, molecule)
        _add(system, _native(general) if self.model == "obc2" else general, group)

    def describe(self) -> dict[str, Any]:
        """Name and OpenMM parameter file."""
        return {"name": self.model, "parameters": f"implicit/{self.model}.xml"}


def general_form(model: str, molecule: Molecule) -> CustomGBForce:
    """The GB model ``model`` of ``molecule`` as OpenMM's parameter file writes it."""
    full = molecule.system_template(app.NoCutoff, (f"implicit/{model}.xml",))  # owns its forces
    return copy.deepcopy(next(force for force in full.getForces() if isinstance(force, CustomGBForce)))


def _native(general: CustomGBForce) -> GBSAOBCForce:
    """The hand-written force with the parameters of the general form of OBC2."""
    force = GBSAOBCForce()
    force.setNonbondedMethod(GBSAOBCForce.NoCutoff)
    force.setSolventDielectric(_DIELECTRIC)
    names = [general.getPerParticleParameterName(k) for k in range(general.getNumPerParticleParameters())]
    for k in range(general.getNumParticles()):
        given = dict(zip(names, general.getParticleParameters(k), strict=True))
        force.addParticle(given["charge"], given["or"] + _OFFSET_NM, given["sr"] / given["or"])
    return force


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


def _add(system: System, force: Force, group: int) -> None:
    force.setForceGroup(group)
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
