"""Potential: anything that can put forces into an OpenMM System, and sums of potentials.

Why the molecular-mechanics terms are a potential like the others: a learned force field may stand on top of
them (ISSNet) or alone (an energy-based model), and both are then plain sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from openmm import System

from mlsim.chem.molecule import Molecule


@runtime_checkable
class Potential(Protocol):
    """Forces for a System."""

    @property
    def name(self) -> str:
        """Name as the user writes it, e.g. ``gbn2``."""

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule that is simulated: itself, or solvated if this potential needs a solvent."""

    def add_to(self, system: System, molecule: Molecule, group: int) -> None:
        """Put the forces into ``system`` (particles and constraints are there) under force group ``group``."""

    def describe(self) -> dict[str, Any]:
        """JSON-able record: what it is, parameters, digests."""


@dataclass(frozen=True)
class PotentialRequest:
    """What a factory may look at: the solute and the bridge the user asked for."""

    molecule: Molecule
    bridge: str = "auto"


Factory = Callable[[str | None, PotentialRequest], Potential]


@dataclass(frozen=True)
class Sum:
    """A sum of potentials; equal terms count once, so ``gbn2 + issnet`` has one molecular-mechanics part."""

    name: str
    terms: tuple[Potential, ...]

    @classmethod
    def of(cls, name: str, terms: Iterable[Potential]) -> Sum:
        """Flatten nested sums and drop repeated terms."""
        flat: list[Potential] = []
        for term in terms:
            for part in term.terms if isinstance(term, Sum) else (term,):
                if part not in flat:
                    flat.append(part)
        return cls(name, tuple(flat))

    def prepare(self, molecule: Molecule) -> Molecule:
        """Let every term prepare the molecule in turn."""
        for term in self.terms:
            molecule = term.prepare(molecule)
        return molecule

    def add_to(self, system: System, molecule: Molecule, group: int) -> None:
        """Add every term, all in ``group``."""
        for term in self.terms:
            term.add_to(system, molecule, group)

    def describe(self) -> dict[str, Any]:
        """The records of the terms."""
        return {"name": self.name, "terms": [term.describe() for term in self.terms]}


def terms_of(potential: Potential) -> tuple[Potential, ...]:
    """The terms of a sum, or the potential itself."""
    return potential.terms if isinstance(potential, Sum) else (potential,)


def is_slow(term: Potential) -> bool:
    """Whether a term varies smoothly, so that a multiple time step may evaluate it less often.

    A potential says so by an attribute ``slow = True``.
    """
    return bool(getattr(term, "slow", False))
