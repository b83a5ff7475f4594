"""Equal points in a topology: what a cluster is to OpenMM, whether it comes from a file or from a name.

A point is a neutral particle of argon's mass in a residue of its own, without bonds (``points.xml``).
"""

from __future__ import annotations

from pathlib import Path

from openmm import app

#: Residue and atom class of a point.
RESIDUE, ATOM_CLASS = "PNT", "PT"
FORCE_FIELD = str(Path(__file__).with_name("points.xml"))


def topology_of(count: int) -> app.Topology:
    """``count`` points in one chain."""
    topology = app.Topology()
    chain = topology.addChain("A")
    for _ in range(count):
        topology.addAtom("AR", app.element.argon, topology.addResidue(RESIDUE, chain))
    return topology
