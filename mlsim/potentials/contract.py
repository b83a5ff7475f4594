"""Potential: anything that can put forces into an OpenMM System, and sums of potentials.

Why the molecular-mechanics terms are a potential like the others: a learned force field may stand on top of
them (ISSNet) or alone (an energy-based model), and both are then plain sums.

What a potential may say of itself beside the protocol, as class attributes or properties:

=============  =====================================================================================================
``part``       what of the energy it is, for :func:`require_physical`: ``mechanics`` (of the solute), ``solvent``
               (solvation by a formula), ``explicit`` (mechanics and solvent), ``network`` (what its ``baseline``
               lacks), ``potential`` (everything); one that says nothing may stand beside anything
``baseline``   name of the solvent that a ``network`` was trained on, ``none`` for bare mechanics
``slow``       whether it varies smoothly, so that a multiple time step may evaluate it less often
``impulsive``  whether its force obeys :attr:`mlsim.potentials.placement.Placement.impulses`
=============  =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from openmm import System

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.potentials.placement import Placement


@runtime_checkable
class Potential(Protocol):
    """Forces for a System."""

    @property
    def name(self) -> str:
        """Name as the user writes it, e.g. ``gbn2``."""

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule that is simulated: itself, or solvated if this potential needs a solvent."""

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Put the forces into ``system`` (particles and constraints are there) as ``placement`` says."""

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
        """Flatten nested sums and drop repeated terms.

        Raises
        ------
        InputError
            If they are no physical sum (:func:`require_physical`).
        """
        flat: list[Potential] = []
        for term in terms:
            for part in term.terms if isinstance(term, Sum) else (term,):
                if part not in flat:
                    flat.append(part)
        require_physical(name, flat)
        return cls(name, tuple(flat))

    def prepare(self, molecule: Molecule) -> Molecule:
        """Let every term prepare the molecule in turn."""
        for term in self.terms:
            molecule = term.prepare(molecule)
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add every term, all in the same place."""
        for term in self.terms:
            term.add_to(system, molecule, placement)

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


def is_impulsive(term: Potential) -> bool:
    """Whether the force of a term can act as impulses."""
    return bool(getattr(term, "impulsive", False))


@runtime_checkable
class Fusing(Protocol):
    """A potential that can evaluate the mechanics of the solute together with itself, faster than OpenMM can."""

    def fused_with(self, mechanics: Potential, bare: System, molecule: Molecule) -> Potential | None:
        """One potential for both; None if it cannot be, e.g. because the mechanics have another form.

        Parameters
        ----------
        mechanics : Potential
            The term with ``part`` mechanics.
        bare : System
            Particles and constraints, no forces.
        """


def require_physical(name: str, terms: Sequence[Potential]) -> None:
    """Refuse a sum that has a part of the energy twice.

    Parameters
    ----------
    name : str
        What the user asked for.

    Raises
    ------
    InputError
        For two solvents, for mechanics or a network beside explicit water, for a network on another baseline than its
        own, for two networks, or for anything beside a complete potential.
    """

    def of(*wanted: str) -> list[Potential]:
        return [term for term in terms if getattr(term, "part", None) in wanted]

    def refuse(first: Potential, second: Potential, why: str) -> InputError:
        return InputError(f"solvent '{name}': {first.name} and {second.name} cannot be added: {why}; use one of them")

    solvents, networks, complete = of("solvent", "explicit"), of("network"), of("potential")
    parts = of("mechanics", "solvent", "explicit", "network", "potential")
    if complete and len(parts) > 1:
        other = next(term for term in parts if term is not complete[0])
        raise refuse(complete[0], other, f"{complete[0].name} is the whole energy of the molecule")
    if len(solvents) > 1:
        raise refuse(solvents[0], solvents[1], "each is a whole solvent")
    for term in of("explicit"):
        for other in of("mechanics", "network"):
            raise refuse(term, other, f"{term.name} has mechanics and solvent already")
    if len(networks) > 1:
        raise refuse(networks[0], networks[1], "each is all that its baseline lacks")
    for network in networks:
        baseline = str(getattr(network, "baseline", "none"))
        for solvent in solvents:
            if solvent.name != baseline:
                lacking = "mechanics alone" if baseline == "none" else baseline
                raise refuse(network, solvent, f"{network.name} was trained on {lacking}")
