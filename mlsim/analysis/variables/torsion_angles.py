"""Torsions of a residue: phi, psi and omega of the backbone, chi1 to chi5 of the side chain, by IUPAC's signs (rad).

Which atoms: phi and psi by names along the chain; omega and the side chains as mdtraj lists them. Without a residue
number the only residue with the torsion is meant; for phi and psi also the only one that has both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlsim.analysis.observables import CollectiveVariable, Observable
from mlsim.analysis.variables import selections
from mlsim.errors import InputError
from mlsim.runs.coordinate import CIRCLE, Coordinate
from mlsim.shapes import Floats

if TYPE_CHECKING:
    import mdtraj

Quadruple = tuple[int, int, int, int]
_BACKBONE: dict[str, tuple[tuple[int, str], ...]] = {
    "phi": ((-1, "C"), (0, "N"), (0, "CA"), (0, "C")),
    "psi": ((0, "N"), (0, "CA"), (0, "C"), (1, "N")),
}


def residues(topology: mdtraj.Topology, name: str) -> tuple[tuple[int, ...], int | None]:
    """Numbers of the residues that have a torsion, and the one that is meant without a number (None: no such one)."""
    found = tuple(quadruples(topology, name))
    if len(found) == 1:
        return found, found[0]
    if name in _BACKBONE:
        both = [number for number in found if all(number in quadruples(topology, other) for other in _BACKBONE)]
        if len(both) == 1:
            return found, both[0]
    return found, None


def quadruples(topology: mdtraj.Topology, name: str) -> dict[int, Quadruple]:
    """The four atoms of a torsion in every residue that has it, by residue number.

    Raises
    ------
    InputError
        If two of them have one number (two chains, counted alike).
    """
    if name in _BACKBONE:
        each = [(r.resSeq, _along_the_chain(topology, r, name)) for r in topology.residues]
        listed = [(number, atoms) for number, atoms in each if atoms is not None]
    else:
        listed = _of_mdtraj(topology, name)
    found = dict(listed)
    if len(found) < len(listed):
        raise InputError(
            f"{name}: residue numbers occur twice in this topology; number its chains on, e.g. 1-10 and 11-20"
        )
    return dict(sorted(found.items()))


def dihedral(positions: Floats, atoms: Quadruple) -> Floats:
    """The torsion of four atoms in every frame [F], rad, of positions [F, N, 3]."""
    import mdtraj

    few = mdtraj.Trajectory(positions[:, atoms, :], topology=None)
    angles = mdtraj.compute_dihedrals(few, np.array([[0, 1, 2, 3]]), periodic=False)
    return np.asarray(angles[:, 0], dtype=np.float64)


def _values(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    found = quadruples(topology, observable.name)
    number = selections.residue(found, residues(topology, observable.name)[1], observable)
    return dihedral(positions, found[number])


def _coordinate(topology: mdtraj.Topology, observable: Observable) -> Coordinate:
    found = quadruples(topology, observable.name)
    atoms = found[selections.residue(found, residues(topology, observable.name)[1], observable)]
    groups = tuple((atom,) for atom in atoms)
    return Coordinate(observable.text, "dihedral(g1, g2, g3, g4)", groups, CIRCLE, width=0.35)


def _of_mdtraj(topology: mdtraj.Topology, name: str) -> list[tuple[int, Quadruple]]:
    """Torsions as mdtraj lists them; each belongs to the residue of its second atom (omega: that of the C)."""
    from mdtraj.geometry import dihedral as torsions

    table = getattr(torsions, f"indices_{name}")(topology)
    owner = [topology.atom(int(row[1])).residue.resSeq for row in table]
    return [(number, (int(a), int(b), int(c), int(d))) for number, (a, b, c, d) in zip(owner, table, strict=True)]


def _along_the_chain(topology: mdtraj.Topology, residue: mdtraj.core.topology.Residue, name: str) -> Quadruple | None:
    """Atoms of phi or psi of ``residue``, or None where it has none."""
    atoms = []
    for offset, atom in _BACKBONE[name]:
        index = residue.index + offset
        if not 0 <= index < topology.n_residues or topology.residue(index).chain.index != residue.chain.index:
            return None
        names = {a.name: a.index for a in topology.residue(index).atoms}
        if atom not in names:
            return None
        atoms.append(names[atom])
    first, second, third, fourth = atoms
    return first, second, third, fourth


TORSION = CollectiveVariable(
    periodic=True,
    unit="rad",
    values=_values,
    selection="residue number (optional for a peptide with one such residue)",
    form=r"(-?\d+)?",
    residues=residues,
    coordinate=_coordinate,
)
