"""A generalized Born model with a formula of its own, which a network can be trained on top of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from openmm import CustomNonbondedForce, System

from mlsim.potentials.contract import Sum
from mlsim.potentials.vacuum import Vacuum
from mlsim.units import COULOMB


@dataclass(frozen=True)
class FixedBorn:
    """A generalized Born model with Born radii that do not change, R in nm."""

    radius_nm: float = 0.2
    name: str = "fixed-born"
    part: ClassVar[str] = "solvent"

    def prepare(self, molecule: Any) -> Any:
        return molecule

    def add_to(self, system: System, molecule: Any, placement: Any) -> None:
        force = CustomNonbondedForce(f"{self.scale}*q1*q2/sqrt(r^2+R*R*exp(-r^2/(4*R*R))); R={self.radius_nm}")
        force.addPerParticleParameter("q")
        for charge in molecule.charges:
            force.addParticle([float(charge)])
        placement.put(system, force, self.name)

    @property
    def scale(self) -> float:
        return -COULOMB * (1.0 - 1.0 / 78.5)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "radius_nm": self.radius_nm}


def fixed_born(argument: str | None, request: Any) -> Sum:
    """``fixed-born``: mechanics and this solvent."""
    return Sum.of("fixed-born", (Vacuum(), FixedBorn()))
