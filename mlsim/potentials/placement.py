"""Placement: where and how a potential puts its force into a System.

    one molecule                    particles 0 .. N - 1 (and the solvent's behind them)
    copies = R                      particles c N .. (c + 1) N - 1 for every copy c
    atoms = (i0, i1, ...)           atom k of the molecule is particle i_k: a System whose atoms have another order
    impulses                        a learned force acts at every n-th step only, n times as strong

A potential makes the OpenMM force of one molecule and hands it to :meth:`Placement.put`, which clones it for every copy
and puts it into its group; so a potential that never heard of copies acts on them, or is refused in one line. One whose
force has its own way with copies (a network that evaluates all in one call) looks at ``copies``, and adds its force
itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmm import Force, NonbondedForce, System

from mlsim.potentials.copies import cloned
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.reordered import reordered


@dataclass(frozen=True)
class Placement:
    """How a potential enters a System.

    Attributes
    ----------
    group : int
        Force group.
    copies : int or None
        Number of copies of the molecule that share the System; None for a molecule alone.
    impulses : Impulses or None
        Rhythm of a force that can act as impulses; any other force acts at every step.
    atoms : tuple of int or None
        Particle of every atom of the molecule, where they stand in another order; None where particle k is atom k.
    """

    group: int = 0
    copies: int | None = None
    impulses: Impulses | None = None
    atoms: tuple[int, ...] | None = None

    def put(self, system: System, force: Force, owner: str) -> None:
        """Add a force that was made for one molecule.

        Parameters
        ----------
        owner : str
            Name of the potential, for messages.

        Raises
        ------
        InputError
            If the force has no form that acts on copies, or on atoms in another order.
        """
        if self.atoms is not None:
            force = reordered(force, self.atoms, owner)
        if self.copies is not None:
            force = cloned(force, system.getNumParticles() // self.copies, self.copies, owner)
        self.add(system, force)

    def add(self, system: System, force: Force) -> None:
        """Add a force that acts on every particle that it should already; only its group is set."""
        force.setForceGroup(self.group)
        if isinstance(force, NonbondedForce):
            force.setReciprocalSpaceForceGroup(self.group)
        system.addForce(force)
