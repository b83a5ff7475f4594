"""Five generalized-Born models, as OpenMM brings them.

OpenMM's ``implicit/*.xml``, NoCutoff, with the ACE surface-area term as OpenMM adds it:
HCT (Hawkins 1996), OBC1 and OBC2 (Onufriev 2004), GBn (Mongan 2007), GBn2 (Nguyen 2013).

Why OBC2 is not taken as the file gives it: the file writes every model as a ``CustomGBForce``, whose formulas OpenMM
interprets. OBC2 is also there as ``GBSAOBCForce``, written by hand: with the same parameters the same energies and
forces (to 1e-7) and steps 6 times as fast (``benchmarks.md_speed``). The other four exist in the general form only.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from openmm import CustomGBForce, GBSAOBCForce, System, app

from mlsim.chem.molecule import Molecule
from mlsim.potentials.placement import Placement

GB_MODELS = ("hct", "obc1", "obc2", "gbn", "gbn2")


#: Of OpenMM's parameter file for OBC2: dielectric constant of water, and what is taken off the radii, nm.
_DIELECTRIC, _OFFSET_NM = 78.5, 0.009


@dataclass(frozen=True)
class GeneralizedBorn:
    """The solvation term of one GB model (to be summed with :class:`mlsim.potentials.vacuum.Vacuum`)."""

    model: str
    slow: ClassVar[bool] = True
    part: ClassVar[str] = "solvent"

    @property
    def name(self) -> str:
        """Name of the GB model."""
        return self.model

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add the force of this model: ``GBSAOBCForce`` for OBC2, else OpenMM's ``CustomGBForce``."""
        general = general_form(self.model, molecule)
        placement.put(system, _native(general) if self.model == "obc2" else general, self.name)

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
