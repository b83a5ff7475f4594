"""A solvent for an OpenMM System that exists: ``mlsim.add_solvent(system, topology, "issnet")``.

The System keeps its particles, masses, constraints and mechanics; of the potential that was asked for, only what is not
mechanics is added, through :meth:`mlsim.potentials.contract.Potential.add_to`:

    issnet = vacuum + network       ->  network                       gbn2 = vacuum + GBn2  ->  GBn2

Why so much is refused: a solvent of this kind replaces water, belongs to the force field that it was trained with, and
sees every atom from every other. A cutoff, a box, a second molecule or other charges would run, and be wrong, without a
word. Constraints, repartitioned masses, integrators, reporters and further forces are the user's affair.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from openmm import NonbondedForce, PeriodicTorsionForce, System, app

from mlsim.chem.molecule import Molecule
from mlsim.chem.readers.openmm_topology import molecule_of
from mlsim.chem.templates import PROTEIN_FORCE_FIELD
from mlsim.errors import InputError
from mlsim.potentials.contract import Potential, PotentialRequest, terms_of
from mlsim.potentials.named import resolve
from mlsim.potentials.placement import Placement

#: Largest difference between charges of one atom, e, and between sums of torsion barriers, kJ/mol, per term.
_CHARGE_E, _BARRIER = 1e-3, 1e-3
_MAKE = 'make the System with ForceField("amber14-all.xml", ...) and nonbondedMethod=NoCutoff'


def add_solvent(
    system: System, topology: app.Topology, solvent: str, force_group: int = 0, bridge: str = "auto"
) -> None:
    """Put a solvent into a System, in place.

    Parameters
    ----------
    system : openmm.System
        Of one peptide in Amber ff14SB, without box, cutoff, water and solvent; constraints, repartitioned masses and
        further forces stay as they are.
    topology : openmm.app.Topology
        From which the System was made; atoms in any order.
    solvent : str
        Name as after ``mlsim run --solvent``: ``issnet``, ``issnet:NAME``, ``gbn2``, ``obc2+issnet:NAME``.
    force_group : int
        Group of the added forces; another one than 0 lets ``getState(getEnergy=True, groups={g})`` show them alone.
    bridge : {"auto", "torch", "python", "cuda"}
        How a learned solvent enters.

    Raises
    ------
    InputError
        If the System is another than described, or ``solvent`` is no solvent for it.
    MissingError, ArtifactError
        If there is no such force field, or none for this peptide.
    """
    if not isinstance(system, System) or not isinstance(topology, app.Topology):
        got = f"{type(system).__name__} and {type(topology).__name__}"
        raise InputError(f"add_solvent: expected an OpenMM System and its Topology, got {got}")
    if not 0 <= force_group < 32:
        raise InputError(f"force_group: expected 0 to 31, got {force_group}")
    if system.getNumParticles() != topology.getNumAtoms():
        raise InputError(
            f"add_solvent: {system.getNumParticles()} particles in the System, {topology.getNumAtoms()} atoms in the "
            "topology; expected the topology from which the System was made, without extra particles"
        )
    molecule = molecule_of(topology)
    nonbonded = _require_open(system)
    potential = resolve(solvent, PotentialRequest(molecule, bridge))
    terms = solvent_terms(solvent, potential)
    _require_parameters(system, nonbonded, molecule)
    for term in terms:
        term.add_to(system, molecule, Placement(force_group, atoms=particles_of(molecule)))


def particles_of(molecule: Molecule) -> tuple[int, ...] | None:
    """Particle of every atom of a molecule from a Topology; None where particle k is atom k."""
    assert molecule.file_order is not None
    order = tuple(int(k) for k in molecule.file_order)
    return None if order == tuple(range(len(order))) else order


def solvent_terms(name: str, potential: Potential) -> tuple[Potential, ...]:
    """What of a potential comes on top of the mechanics of the solute.

    Raises
    ------
    InputError
        If that is nothing, or the potential is not mechanics and a solvent without water.
    """
    terms = terms_of(potential)
    for term in terms:
        if getattr(term, "part", None) == "explicit":
            raise InputError(f"solvent '{name}': explicit water is no force; add it with Modeller.addSolvent")
        if getattr(term, "part", None) == "potential":
            raise InputError(
                f"solvent '{name}': {term.name} is the whole energy of the molecule and stands on no mechanics; run it "
                f"with: mlsim run SYSTEM --solvent {name}"
            )
    rest = tuple(term for term in terms if getattr(term, "part", None) != "mechanics")
    if not rest:
        raise InputError(f"solvent '{name}': nothing to add; leave the call out to simulate without solvent")
    return rest


def _require_open(system: System) -> NonbondedForce:
    """The one nonbonded force of a System without box, cutoff, barostat and solvent."""
    forces = list(system.getForces())
    for force in forces:
        kind = type(force).__name__
        if "Barostat" in kind:
            raise InputError(f"add_solvent: {kind} in the System; there is no box, leave it out")
        if "GB" in kind or "GeneralizedKirkwood" in kind or force.getName().startswith("learned:"):
            raise InputError(f"add_solvent: the System has a solvent already ({force.getName()}); leave one out")
    found = [force for force in forces if isinstance(force, NonbondedForce)]
    if len(found) != 1:
        raise InputError(f"add_solvent: expected one NonbondedForce in the System, got {len(found)}; {_MAKE}")
    if system.usesPeriodicBoundaryConditions():
        raise InputError(f"add_solvent: the System is periodic; a solvent without water has no box: {_MAKE}")
    if found[0].getNonbondedMethod() != NonbondedForce.NoCutoff:
        raise InputError(f"add_solvent: the System has a cutoff, the solvent was made without one; {_MAKE}")
    return found[0]


def _require_parameters(system: System, nonbonded: NonbondedForce, molecule: Molecule) -> None:
    """Refuse charges and torsions that are not those of ff14SB, with which solvents are trained."""
    assert molecule.file_order is not None
    charges = np.array([_number(nonbonded.getParticleParameters(k)[0]) for k in range(system.getNumParticles())])
    differences = np.abs(charges[molecule.file_order] - molecule.charges)
    if differences.max() > _CHARGE_E:
        k = int(differences.argmax())
        index, name = int(molecule.file_order[k]), molecule.atom_names[k]
        raise InputError(
            f"add_solvent: expected charges of {PROTEIN_FORCE_FIELD}, got {charges[index]:.4f} instead of "
            f"{molecule.charges[k]:.4f} e for atom {name} (index {index}); {_MAKE}"
        )
    reference = molecule.system_template(app.NoCutoff)
    ours, theirs = _barriers(reference), _barriers(system)
    if any(abs(ours[key] - theirs[key]) > _BARRIER for key in {*ours, *theirs}) or _has_maps(system):
        raise InputError(f"add_solvent: the torsions of the System are not those of {PROTEIN_FORCE_FIELD}; {_MAKE}")


def _barriers(system: System) -> defaultdict[tuple[int, float], float]:
    """Sum of torsion barriers, kJ/mol, by periodicity and phase; those of no height do not count."""
    sums: defaultdict[tuple[int, float], float] = defaultdict(float)
    for force in system.getForces():
        if isinstance(force, PeriodicTorsionForce):
            for k in range(force.getNumTorsions()):
                *_, periodicity, phase, barrier = force.getTorsionParameters(k)
                if _number(barrier) != 0.0:
                    sums[periodicity, round(abs(_number(phase)), 2)] += _number(barrier)
    return sums


def _has_maps(system: System) -> bool:
    return any(type(force).__name__ == "CMAPTorsionForce" for force in system.getForces())


def _number(quantity: Any) -> float:
    return float(getattr(quantity, "_value", quantity))
