"""Potential: anything that can put forces into an OpenMM System, and the names by which users ask for one.

A specification is one or more names joined by ``+``; a name may carry an argument after a colon:
``vacuum``, ``gbn2``, ``tip3p``, ``issnet``, ``issnet:my-model``, ``gbn2+issnet:correction``.
Names come from this package (``vacuum``, the GB models, ``tip3p``) and from the entry-point group
``mlsim.potentials``, where any installed package may register a factory ``(argument, request) -> Potential``.
This package's own learned force fields arrive the same way, so md never imports torch.

Why the molecular-mechanics terms are a potential like the others: a learned force field may stand on top of
them (ISSNet) or alone (an energy-based model), and both are then plain sums.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from openmm import HarmonicBondForce, System, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.md.impulses import Impulses, Impulsive, can_be_impulsive

ENTRY_POINT_GROUP = "mlsim.potentials"


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


def build_system(
    molecule: Molecule,
    potential: Potential,
    constraints: str,
    hydrogen_mass_Da: float,
    slow_group: int = 0,
    impulses: Impulses | None = None,
) -> System:
    """Particles, constraints and forces.

    Parameters
    ----------
    molecule : Molecule
        As returned by ``potential.prepare``.
    constraints : {"hbonds", "none"}
        ``hbonds`` fixes every bond to a hydrogen; water is rigid either way.
    hydrogen_mass_Da : float
        Mass of solute hydrogens after repartitioning, Da (the heavy neighbour gives the difference).
    slow_group : int
        Force group of the slow terms; all others are in group 0.
    impulses : Impulses, optional
        Rhythm of the terms that can act as impulses.
    """
    system = skeleton(molecule, constraints, hydrogen_mass_Da)
    for term in terms_of(potential):
        group = slow_group if is_slow(term) else 0
        if impulses is not None and isinstance(term, Impulsive) and can_be_impulsive(term):
            term.add_impulses_to(system, molecule, group, impulses)
        else:
            term.add_to(system, molecule, group)
    return system


def skeleton(molecule: Molecule, constraints: str, hydrogen_mass_Da: float) -> System:
    """A System with masses, constraints and box but no forces."""
    full = app.ForceField(*molecule.force_field).createSystem(
        molecule.topology,
        nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds if constraints == "hbonds" else None,
        rigidWater=True,
        removeCMMotion=False,
        hydrogenMass=hydrogen_mass_Da * unit.dalton,
    )
    system = System()
    for k in range(full.getNumParticles()):
        system.addParticle(full.getParticleMass(k))
    for k in range(full.getNumConstraints()):
        system.addConstraint(*full.getConstraintParameters(k))
    if molecule.box is not None:
        system.setDefaultPeriodicBoxVectors(*(molecule.box * unit.nanometer))
    return system


def without_constrained_bonds(force: HarmonicBondForce, system: System) -> HarmonicBondForce:
    """The harmonic bonds that are not already fixed by a constraint of ``system``."""
    fixed = set()
    for k in range(system.getNumConstraints()):
        i, j, _ = system.getConstraintParameters(k)
        fixed.add((min(i, j), max(i, j)))
    kept = HarmonicBondForce()
    kept.setName(force.getName())
    for k in range(force.getNumBonds()):
        i, j, length, strength = force.getBondParameters(k)
        if (min(i, j), max(i, j)) not in fixed:
            kept.addBond(i, j, length, strength)
    return kept


def registered() -> dict[str, Factory]:
    """All factories by name; loading a third-party one happens only when it is asked for."""
    from mlsim.md.classical import FACTORIES

    def late(point: Any) -> Factory:
        return lambda argument, request: point.load()(argument, request)

    return {**{p.name: late(p) for p in entry_points(group=ENTRY_POINT_GROUP)}, **FACTORIES}


def resolve(specification: str, request: PotentialRequest) -> Potential:
    """The potential for a specification such as ``issnet`` or ``gbn2+issnet:correction``.

    Raises
    ------
    InputError
        Unknown or empty name (with a suggestion).
    """
    factories = registered()
    terms: list[Potential] = []
    for part in specification.split("+"):
        name, _, argument = part.strip().partition(":")
        if name not in factories:
            close = difflib.get_close_matches(name, factories, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(sorted(factories))
            raise InputError(f"solvent '{specification}': no potential is called '{name}'; {hint}")
        terms.append(factories[name](argument or None, request))
    return terms[0] if len(terms) == 1 else Sum.of(specification, terms)
