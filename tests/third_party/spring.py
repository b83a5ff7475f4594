"""A spring between two atoms, as a potential with an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openmm import HarmonicBondForce, System

from mlsim.errors import InputError


@dataclass(frozen=True)
class Tether:
    """A spring between the first and the last atom, k in kJ/mol/nm^2."""

    k: float
    name: str = "tether"

    def prepare(self, molecule: Any) -> Any:
        return molecule

    def add_to(self, system: System, molecule: Any, placement: Any) -> None:
        force = HarmonicBondForce()
        force.addBond(0, molecule.n_atoms - 1, 1.0, self.k)
        placement.put(system, force, self.name)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "k": self.k}


def tether(argument: str | None, request: Any) -> Tether:
    """``tether:100``."""
    if argument is None:
        raise InputError("tether: expected a force constant, e.g. tether:100")
    return Tether(float(argument))
