"""Learned force fields as potentials: what ``--solvent issnet`` and ``--solvent issnet:NAME`` mean.

A force field with the role ``solvation`` stands on the intact molecular mechanics of the solute, and on the generalized
Born model that its training subtracted, if any; one with the role ``potential`` stands alone. :func:`factory` is
registered under the entry point ``mlsim.potentials`` for the names ``issnet`` (the system's own default force field, or
NAME) and ``learned`` (NAME of any kind).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from openmm import Force, System

from mlsim.chem.catalog import forcefield_directory, forcefield_for
from mlsim.chem.molecule import Molecule
from mlsim.chem.templates import sequence_of
from mlsim.deploy.bind import ForceField, load_forcefield, require_fit
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
from mlsim.deploy.kernel.mechanics import take_over
from mlsim.errors import InputError, MissingError
from mlsim.potentials.born import GeneralizedBorn
from mlsim.potentials.contract import Potential, PotentialRequest, Sum
from mlsim.potentials.impulses import Impulses
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
    """

    name: str
    digest: str
    source: ForceField = field(compare=False, repr=False)
    bridge: Bridge = field(default="auto", compare=False)
    slow: ClassVar[bool] = True

    def prepare(self, molecule: Molecule) -> Molecule:
        """The molecule as it is."""
        return molecule

    def add_to(self, system: System, molecule: Molecule, group: int) -> None:
        """Add the force, by the chosen bridge, to the solute atoms.

        The compiled kernel takes the molecular mechanics with it that stand in ``system`` already, in the same group.
        """
        if takes_callbacks(self.source, self.bridge):
            self._add_callback(system, molecule, group, None)
            return
        force = make_force(self.source, molecule, self.bridge)
        force.setForceGroup(group)
        system.addForce(force)

    @property
    def impulsive(self) -> bool:
        """Whether the force can act as impulses: a callback can skip a step, ``TorchForce`` cannot.

        A potential that stands alone is not smooth beside anything and acts at every step.
        """
        alone = self.source.artifact.card.description.role == "potential"
        return not alone and takes_callbacks(self.source, self.bridge)

    def add_impulses_to(self, system: System, molecule: Molecule, group: int, impulses: Impulses) -> None:
        """Add the force, acting when ``impulses`` says so (the molecular mechanics at every step)."""
        self._add_callback(system, molecule, group, impulses)

    def _add_callback(self, system: System, molecule: Molecule, group: int, impulses: Impulses | None) -> None:
        bound = bound_for(self.source, molecule, self.bridge)
        mechanics = take_over(system, bound.n_atoms, group) if bound.backend == "compiled" else None
        force = python_force(bound, molecule.n_atoms, impulses, mechanics)
        force.setForceGroup(group)
        system.addForce(force)

    def add_copies_to(
        self, system: System, molecule: Molecule, group: int, copies: int, impulses: Impulses | None = None
    ) -> None:
        """Add one force that evaluates all copies of the solute in one call, when ``impulses`` says so."""
        force: Force
        if takes_callbacks(self.source, self.bridge):
            force = batched_force(bound_for(self.source, molecule, self.bridge), copies, impulses=impulses)
        else:
            force = torch_force(self.source.bind(molecule, "torchscript"), copies)
        force.setForceGroup(group)
        system.addForce(force)

    def describe(self) -> dict[str, Any]:
        """Name, kind, role, digest and baseline of the artifact, and how it is run."""
        card = self.source.artifact.card
        return {
            "name": self.name,
            "forcefield": card.name,
            "kind": card.kind,
            "role": card.description.role,
            "baseline": card.baseline,
            "digest": self.digest,
            "bridge": self.bridge,
            "temperature_K": card.description.temperature_K,
        }


def learned(name: str, source: ForceField, bridge: str = "auto") -> Potential:
    """The whole potential in which a force field is meant to be used.

    Parameters
    ----------
    name : str
        What the user asked for.
    """
    if bridge not in BRIDGES:
        raise InputError(f"bridge: expected one of {', '.join(BRIDGES)}, got '{bridge}'")
    chosen: Bridge = bridge  # type: ignore[assignment]
    card = source.artifact.card
    own = LearnedPotential(f"learned:{card.name}", source.artifact.digest, source, chosen)
    if card.description.role == "potential":
        return own
    baseline = () if card.baseline == "none" else (GeneralizedBorn(card.baseline),)
    return Sum.of(name, (Vacuum(), *baseline, own))


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
    name = argument or forcefield_for(sequence_of(solute.topology))
    if name is None:
        raise MissingError(f"no learned force field is known for {solute.name}; name one as issnet:NAME, or train one")
    source = load_forcefield(forcefield_directory(name))
    require_fit(source.artifact, solute)  # refuse a molecule that does not fit before anything is written
    return learned("issnet" if argument is None else f"issnet:{argument}", source, request.bridge)
