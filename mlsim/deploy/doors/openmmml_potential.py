"""``MLPotential("issnet")``: a learned solvent in openmm-ml, found by the entry point ``openmmml.potentials``.

    system = MLPotential("issnet").createSystem(topology)
    system = MLPotential("issnet", forcefield="issnet-peptides").createSystem(topology, bridge="python")

openmm-ml starts from particles without forces, so the whole potential is added: the mechanics of Amber ff14SB in the
order of the topology, and the learned solvent on top. ``createMixedSystem`` works where the subset is the whole
molecule; a part of it, or a molecule in water, has no implicit solvent and is refused.

Reference: openmm-ml 1.8, ``MLPotentialImplFactory`` and ``MLPotentialImpl``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
from openmm import System, app
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from mlsim.errors import InputError


class LearnedSolventFactory(MLPotentialImplFactory):  # type: ignore[misc]
    """What openmm-ml keeps for the name ``issnet``."""

    def createImpl(self, name: str, forcefield: str | None = None) -> LearnedSolventImpl:
        """The potential of a name; ``forcefield`` is a force field, where it is not the peptide's own."""
        return LearnedSolventImpl(name if forcefield is None else f"{name}:{forcefield}")


class LearnedSolventImpl(MLPotentialImpl):  # type: ignore[misc]
    """Adds mechanics and learned solvent to a System."""

    def __init__(self, solvent: str) -> None:
        self.solvent = solvent

    def addForces(
        self,
        topology: app.Topology,
        system: System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        bridge: str = "auto",
    ) -> None:
        """Add all forces of the peptide.

        Parameters
        ----------
        topology : openmm.app.Topology
            One peptide, without water; atoms in any order.
        system : openmm.System
        atoms : iterable of int or None
            None, or every atom.
        forceGroup : int
        bridge : {"auto", "torch", "python", "cuda"}

        Raises
        ------
        InputError
            If ``atoms`` are only a part, or the topology is not one peptide.
        """
        # Imported at first use: openmm-ml loads this module whenever it is imported, whatever potential is wanted.
        from mlsim.chem.molecule import Molecule
        from mlsim.chem.readers.openmm_topology import molecule_of
        from mlsim.deploy.doors.existing_system import particles_of
        from mlsim.potentials.contract import PotentialRequest, terms_of
        from mlsim.potentials.named import resolve
        from mlsim.potentials.placement import Placement

        n = topology.getNumAtoms()
        if atoms is not None and sorted(atoms) != list(range(n)):
            raise InputError(
                f"MLPotential('{self.solvent}'): an implicit solvent acts on the whole molecule, got a part of "
                "the topology; use createSystem with the peptide alone"
            )
        molecule = molecule_of(topology)
        as_given = Molecule(molecule.name, topology, np.full((n, 3), np.nan), np.arange(n))
        for term in terms_of(resolve(self.solvent, PotentialRequest(molecule, bridge))):
            if getattr(term, "part", None) == "mechanics":
                # openmm-ml takes constraints off afterwards, so bonds that are constrained now need their terms too
                bare = System()
                for _ in range(n):
                    bare.addParticle(1.0)  # forces ask for particles, not for their masses
                term.add_to(bare, as_given, Placement(forceGroup))
                for force in bare.getForces():
                    system.addForce(copy.deepcopy(force))
            else:
                term.add_to(system, molecule, Placement(forceGroup, atoms=particles_of(molecule)))

    def getMLLongRange(self) -> bool:
        """There are no periodic images."""
        return False
