"""Lengths: between two atoms, between the ends of the chain, radius of gyration, and RMSD from a structure (nm).

``rmsd:FILE`` is the root mean square deviation of all heavy atoms from the structure in FILE after the best
superposition, ``rmsd:FILE,CA`` that of the CA atoms (mdtraj). Atoms are matched by residue and name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsim.analysis.observables import CollectiveVariable, Observable
from mlsim.analysis.variables import selections
from mlsim.errors import InputError, MissingError
from mlsim.runs.coordinate import Axis, Coordinate
from mlsim.runs.trajectory_file import plain_name
from mlsim.shapes import Floats

if TYPE_CHECKING:
    import mdtraj

_ATOM = r"-?\d+\.[\w'*]+"
#: No bond of a peptide but S-S (0.205) is longer; a chain of bonds is never straight.
_LONGEST_BOND_NM = 0.16


def _distance(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    return _separation(positions, *_pair(topology, observable))


def _end_to_end(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    return _separation(positions, *_ends(topology, observable))


def _pair(topology: mdtraj.Topology, observable: Observable) -> tuple[int, int]:
    first, second = (selections.atom(topology, text, observable) for text in observable.selection.split(","))
    if first == second:
        raise InputError(f"collective variable '{observable.text}': expected two different atoms")
    return first, second


def _ends(topology: mdtraj.Topology, observable: Observable) -> tuple[int, int]:
    ends = [a.index for a in topology.atoms if a.name == "CA"]
    if len(ends) < 2:
        raise InputError(f"end-to-end: expected at least two CA atoms, the molecule has {len(ends)}")
    return ends[0], ends[-1]


def _length(which: Callable[[mdtraj.Topology, Observable], tuple[int, int]]) -> Callable[..., Coordinate]:
    """Coordinate of a distance: from 0 to what the bonds between both atoms allow."""

    def coordinate(topology: mdtraj.Topology, observable: Observable) -> Coordinate:
        first, second = which(topology, observable)
        longest = _LONGEST_BOND_NM * _bonds_between(topology, first, second, observable)
        return Coordinate(observable.text, "distance(g1, g2)", ((first,), (second,)), Axis(0.0, longest, False), 0.05)

    return coordinate


def _bonds_between(topology: mdtraj.Topology, first: int, second: int, observable: Observable) -> int:
    neighbours: dict[int, list[int]] = {}
    for a, b in topology.bonds:
        neighbours.setdefault(a.index, []).append(b.index)
        neighbours.setdefault(b.index, []).append(a.index)
    seen, edge, count = {first}, {first}, 0
    while edge and second not in seen:
        edge = {other for atom in edge for other in neighbours.get(atom, ())} - seen
        seen |= edge
        count += 1
    if second not in seen:
        raise InputError(f"collective variable '{observable.text}': expected atoms that a chain of bonds connects")
    return count


def _separation(positions: Floats, first: int, second: int) -> Floats:
    difference = positions[:, second].astype(np.float64) - positions[:, first]
    return np.linalg.norm(difference, axis=1)


def _radius_of_gyration(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    masses = np.array([a.element.mass for a in topology.atoms], dtype=np.float64)
    x = positions.astype(np.float64)
    centred = x - (masses[:, None] * x).sum(axis=1, keepdims=True) / masses.sum()
    return np.sqrt((masses * np.square(centred).sum(axis=2)).sum(axis=1) / masses.sum())


def _rmsd(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    import mdtraj

    name, _, atoms = observable.selection.partition(",")
    structure = _structure(Path(name), observable)
    there = {(r.resSeq, a.name): a.index for r in structure.topology.residues for a in r.atoms}
    pairs = [
        (a.index, there.get((r.resSeq, a.name)))
        for r in topology.residues
        for a in r.atoms
        if (a.name == "CA" if atoms else a.element.symbol not in ("H", "VS"))
    ]
    missing = [str(topology.atom(own)) for own, other in pairs if other is None]
    if missing or len(pairs) < 3:
        lack = f"it has no {missing[0]}" if missing else f"only {len(pairs)} atoms to superpose"
        raise InputError(f"collective variable '{observable.text}': {lack}; expected a structure of this molecule")
    ours, theirs = np.array(pairs).T
    target = mdtraj.Trajectory(structure.xyz[:, theirs], topology=None)
    moving = mdtraj.Trajectory(np.asarray(positions[:, ours], dtype=np.float32), topology=None)
    return np.asarray(mdtraj.rmsd(moving, target), dtype=np.float64)


def _structure(path: Path, observable: Observable) -> mdtraj.Trajectory:
    import mdtraj

    if not path.is_file():
        raise MissingError(f"collective variable '{observable.text}': {path}: no such file")
    with plain_name(path) as plain:
        try:
            return mdtraj.load(str(plain))[0]
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"collective variable '{observable.text}': {path} cannot be read as a structure ({reason})"
            ) from None


DISTANCE = CollectiveVariable(
    periodic=False,
    unit="nm",
    values=_distance,
    selection="two atoms, e.g. distance:2.NZ,4.CD",
    form=f"{_ATOM},{_ATOM}",
    coordinate=_length(_pair),
)
END_TO_END = CollectiveVariable(periodic=False, unit="nm", values=_end_to_end, coordinate=_length(_ends))
RADIUS_OF_GYRATION = CollectiveVariable(periodic=False, unit="nm", values=_radius_of_gyration)
RMSD = CollectiveVariable(
    periodic=False,
    unit="nm",
    values=_rmsd,
    selection="a structure file, e.g. rmsd:native.pdb (heavy atoms) or rmsd:native.pdb,CA",
    form=r"[^,]+(,CA)?",
)
