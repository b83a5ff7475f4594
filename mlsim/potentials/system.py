"""A System from a molecule and a potential: particles, masses, constraints, box, then the forces of every term."""

from __future__ import annotations

import copy

from openmm import Force, HarmonicBondForce, NonbondedForce, System, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.potentials.contract import Potential, is_slow, terms_of
from mlsim.potentials.impulses import Impulses, Impulsive, can_be_impulsive


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


def add_force_field(system: System, molecule: Molecule, nonbonded: object, group: int) -> None:
    """Add all terms of the molecule's force field with one nonbonded method, except bonds that are constrained."""
    full = molecule.system_template(nonbonded)  # owns its forces: must outlive the loop
    for force in full.getForces():
        if isinstance(force, HarmonicBondForce):
            add_force(system, without_constrained_bonds(force, system), group)
        else:
            add_force(system, copy.deepcopy(force), group)


def add_force(system: System, force: Force, group: int) -> None:
    """Add a force to one group, its reciprocal space too."""
    force.setForceGroup(group)
    if isinstance(force, NonbondedForce):
        force.setReciprocalSpaceForceGroup(group)
    system.addForce(force)
