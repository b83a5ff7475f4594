"""Learned force fields as potentials: what ``--solvent issnet`` and ``--solvent issnet:NAME`` mean.

A force field with the role ``solvation`` stands on the intact molecular mechanics of the solute, and on the generalized
Born model that its training subtracted, if any; one with the role ``potential`` stands alone. :func:`factory` is
registered under the entry point ``mlsim.potentials`` for the names ``issnet`` (the system's own default force field, or
NAME) and ``learned`` (NAME of any kind).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

from openmm import Force, System

from mlsim.chem.catalog import forcefield_directory, forcefield_for, shipped, transferable_forcefield
from mlsim.chem.molecule import Molecule
from mlsim.chem.templates import sequence_of
from mlsim.deploy.bind import BoundForceField, ForceField, load_forcefield, require_fit
from mlsim.deploy.bridges.openmm_force import (
    BRIDGES,
    Bridge,
    bound_for,
    make_force,
    python_force,
    takes_callbacks,
    torch_force,
)
from mlsim.deploy.bridges.replicated import batched_force
from mlsim.deploy.kernel.mechanics import Mechanics
from mlsim.errors import InputError, MissingError
from mlsim.potentials.born import GeneralizedBorn
from mlsim.potentials.contract import Potential, PotentialRequest, Sum
from mlsim.potentials.named import solvation
from mlsim.potentials.placement import Placement
from mlsim.potentials.vacuum import Vacuum


@dataclass(frozen=True)
class LearnedPotential:
    """The energy of one force field on the solute.

    Attributes
    ----------
    name : str
    digest : str
        Identity of the artifact; two potentials are equal if name and digest are.
    source : ForceField
    bridge : {"auto", "torch", "python", "cuda"}
    why : str
        Why it was taken, if that is worth saying.
    """

    name: str
    digest: str
    source: ForceField = field(compare=False, repr=False)
    bridge: Bridge = field(default="auto", compare=False)
    why: str = field(default="", compare=False)
    slow: ClassVar[bool] = True

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    @property
    def part(self) -> str:
        """``potential`` for a force field that stands alone, ``network`` for one that stands on a baseline."""
        return "potential" if self.source.artifact.card.description.role == "potential" else "network"

    @property
    def baseline(self) -> str:
        """The solvent model that the force field was trained on."""
        return str(self.source.artifact.card.baseline)

    @property
    def impulsive(self) -> bool:
        """Whether the force can act as impulses: a callback can skip a step, ``TorchForce`` cannot.

        A potential that stands alone is not smooth beside anything and acts at every step.
        """
        return self.part == "network" and takes_callbacks(self.source, self.bridge)

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add the force, by the chosen bridge, to the solute atoms; one call evaluates all copies."""
        force: Force
        if placement.atoms is not None:
            placement.add(system, self._on(placement.atoms, molecule, placement))
            return
        if placement.copies is None and not takes_callbacks(self.source, self.bridge):
            force = make_force(self.source, molecule, self.bridge)
        elif placement.copies is None:
            bound = bound_for(self.source, molecule, self.bridge)
            force = python_force(bound, molecule.n_atoms, placement.impulses)
        elif takes_callbacks(self.source, self.bridge):
            bound = bound_for(self.source, molecule, self.bridge)
            force = batched_force(bound, placement.copies, impulses=placement.impulses)
        else:
            force = torch_force(self.source.bind(molecule, "torchscript"), placement.copies)
        placement.add(system, force)

    def _on(self, atoms: tuple[int, ...], molecule: Molecule, placement: Placement) -> Force:
        """The force on atoms of a System that has another order."""
        if placement.copies is not None or not takes_callbacks(self.source, self.bridge):
            raise InputError(
                f"{self.name}: the atoms of the System have another order than the network's, which only one molecule "
                "and the bridge 'python' can take; choose it, or order the topology with mlsim build FILE"
            )
        force = python_force(bound_for(self.source, molecule, self.bridge), molecule.n_atoms, placement.impulses)
        force.setParticles(list(atoms))
        return force

    def fused_with(self, mechanics: Potential, bare: System, molecule: Molecule) -> FusedPotential | None:
        """The compiled kernel with the molecular mechanics of the solute in the same call, where it can have them."""
        if not takes_callbacks(self.source, self.bridge):
            return None
        bound = bound_for(self.source, molecule, self.bridge)
        if bound.backend != "compiled" or bare.getNumParticles() != bound.n_atoms:
            return None
        alone = copy.deepcopy(bare)
        mechanics.add_to(alone, molecule, Placement())
        loop = Mechanics.of(list(alone.getForces()), bound.n_atoms)
        return None if loop is None else FusedPotential(self, mechanics, bound, loop)

    def describe(self) -> dict[str, Any]:
        """Name, kind, role, digest and baseline of the artifact, how it is run, and whether it did not ship."""
        card = self.source.artifact.card
        reason = {"why": self.why} if self.why else {}
        if shipped() not in self.source.artifact.directory.resolve().parents:
            same = (shipped() / "forcefields" / card.name).is_dir()
            reason["origin"] = "in the place of the shipped one of that name" if same else "did not ship with mlsim"
        return reason | {
            "name": self.name,
            "forcefield": card.name,
            "kind": card.kind,
            "role": card.description.role,
            "baseline": card.baseline,
            "digest": self.digest,
            "bridge": self.bridge,
            "temperature_K": card.description.temperature_K,
        }


@dataclass(frozen=True)
class FusedPotential:
    """A force field and the molecular mechanics of its solute as one force (:mod:`mlsim.deploy.kernel.mechanics`).

    Made when a System is planned; nothing but the System knows of it.
    """

    network: LearnedPotential
    mechanics: Potential
    bound: BoundForceField = field(compare=False, repr=False)
    loop: Mechanics = field(compare=False, repr=False)
    slow: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.mechanics.name}+{self.network.name}"

    @property
    def impulsive(self) -> bool:
        """As the network; the mechanics act at every step."""
        return self.network.impulsive

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        """Add one force for both."""
        placement.add(system, python_force(self.bound, molecule.n_atoms, placement.impulses, self.loop))

    def describe(self) -> dict[str, Any]:
        """The records of both."""
        return {"name": self.name, "terms": [self.mechanics.describe(), self.network.describe()]}


def learned(
    name: str, source: ForceField, bridge: str = "auto", why: str = "", molecule: Molecule | None = None
) -> Potential:
    """The whole potential in which a force field is meant to be used.

    Parameters
    ----------
    name : str
        What the user asked for.
    why : str
        Why this force field was taken, where the user did not name it and it is not the system's own.
    molecule : Molecule, optional
        The solute; a baseline of another package is asked for with it.
    """
    if bridge not in BRIDGES:
        raise InputError(f"bridge: expected one of {', '.join(BRIDGES)}, got '{bridge}'")
    chosen: Bridge = bridge  # type: ignore[assignment]
    card = source.artifact.card
    own = LearnedPotential(f"learned:{card.name}", source.artifact.digest, source, chosen, why)
    if card.description.role == "potential":
        return own
    if card.baseline == "none":
        return Sum.of(name, (Vacuum(), own))
    beneath = GeneralizedBorn(card.baseline) if molecule is None else solvation(card.baseline, molecule)
    return Sum.of(name, (Vacuum(), beneath, own))


def factory(argument: str | None, request: PotentialRequest) -> Potential:
    """``issnet`` or ``issnet:NAME`` for a molecule.

    Raises
    ------
    MissingError
        If there is no such force field, or none for this molecule.
    ArtifactError
        If it may not be used, or not for this molecule.
    """
    solute = request.molecule.solute_molecule()
    own = argument or forcefield_for(sequence_of(solute.topology))
    name = own or transferable_forcefield()
    if name is None:
        raise MissingError(f"no learned force field is known for {solute.name}; name one as issnet:NAME, or train one")
    source = load_forcefield(forcefield_directory(name))
    require_fit(source.artifact, solute)  # refuse a molecule that does not fit before anything is written
    why = "" if own else f"{solute.name} has no force field of its own; {name} serves any peptide"
    return learned("issnet" if argument is None else f"issnet:{argument}", source, request.bridge, why, solute)
