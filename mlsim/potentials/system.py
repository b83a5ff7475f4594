"""A System from a molecule and a potential: particles, masses, constraints, box, then the forces of every term.

    skeleton -> plan (which terms there are, and which of them are one) -> every term adds its force

The plan is made before any force is there: where a network can evaluate the mechanics of the solute itself
(:class:`mlsim.potentials.contract.Fusing`), both are one term of the System from the start.
"""

from __future__ import annotations

import copy
import itertools

from openmm import HarmonicBondForce, System, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.potentials.contract import Fusing, Potential, is_impulsive, is_slow, terms_of
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.placement import Placement


def build_system(
    molecule: Molecule,
    potential: Potential,
    constraints: str,
    hydrogen_mass_Da: float,
    slow_group: int = 0,
    impulses: Impulses | None = None,
    copies: int | None = None,
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
    copies : int, optional
        Number of copies of the molecule, which do not see each other; copy c owns the particles c N to (c + 1) N - 1.

    Raises
    ------
    InputError
        If a term of the potential cannot act on this molecule, or on copies of it.
    """
    system = skeleton(molecule, constraints, hydrogen_mass_Da)
    terms = terms_of(potential)
    if copies is None:
        terms = plan(terms, system, molecule, slow_group)
    else:
        system = repeated(system, molecule, copies)
    for term in terms:
        rhythm = impulses if is_impulsive(term) else None
        term.add_to(system, molecule, Placement(slow_group if is_slow(term) else 0, copies, rhythm))
    return system


def plan(terms: tuple[Potential, ...], bare: System, molecule: Molecule, slow_group: int = 0) -> tuple[Potential, ...]:
    """The terms that enter the System: mechanics and a network that evaluates both together are one of them.

    They stay two where a multiple time step evaluates them at different times.
    """
    mechanics = [term for term in terms if getattr(term, "part", None) == "mechanics"]
    if len(mechanics) != 1:
        return terms
    for network in terms:
        if isinstance(network, Fusing) and not (slow_group and is_slow(network)):
            both = network.fused_with(mechanics[0], bare, molecule)
            if both is not None:
                return tuple(both if term is network else term for term in terms if term is not mechanics[0])
    return terms


def skeleton(molecule: Molecule, constraints: str, hydrogen_mass_Da: float) -> System:
    """A System with masses, constraints, virtual sites and box but no forces."""
    system = app.ForceField(*molecule.force_field).createSystem(
        molecule.topology,
        nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds if constraints == "hbonds" else None,
        rigidWater=True,
        removeCMMotion=False,
        hydrogenMass=hydrogen_mass_Da * unit.dalton,
    )
    while system.getNumForces():
        system.removeForce(0)
    box = System().getDefaultPeriodicBoxVectors() if molecule.box is None else molecule.box * unit.nanometer
    system.setDefaultPeriodicBoxVectors(*box)
    return system


def repeated(single: System, molecule: Molecule, copies: int) -> System:
    """``copies`` times the particles and constraints of ``single``.

    Raises
    ------
    InputError
        If the molecule is in a box, or has virtual sites.
    """
    if copies < 1:
        raise InputError(f"copies: expected at least 1, got {copies}")
    if molecule.is_periodic:
        raise InputError(f"{molecule.name}: copies in one System need a molecule without box")
    n = single.getNumParticles()
    if any(single.isVirtualSite(k) for k in range(n)):
        raise InputError(f"{molecule.name}: copies in one System need a molecule without virtual sites")
    system = System()
    for _, k in itertools.product(range(copies), range(n)):
        system.addParticle(single.getParticleMass(k))
    for first, k in itertools.product(range(0, copies * n, n), range(single.getNumConstraints())):
        i, j, length = single.getConstraintParameters(k)
        system.addConstraint(first + i, first + j, length)
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


def add_force_field(system: System, molecule: Molecule, nonbonded: object, placement: Placement, owner: str) -> None:
    """Add all terms of the molecule's force field with one nonbonded method, except bonds that are constrained."""
    full = molecule.system_template(nonbonded)  # owns its forces: must outlive the loop
    for force in full.getForces():
        if isinstance(force, HarmonicBondForce):
            placement.put(system, without_constrained_bonds(force, system), owner)
        else:
            placement.put(system, copy.deepcopy(force), owner)
