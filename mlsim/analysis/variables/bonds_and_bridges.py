"""Hydrogen bonds and salt bridges within the molecule.

``hbonds``: number of hydrogen bonds by the cone of Wernet and Nilsson (distance and angle together; mdtraj).
``salt-bridges``: number of pairs of an acid and a base whose nearest O and N are within 0.4 nm (Barlow and Thornton).
``salt-bridge:2,4``: that distance (nm) for the residues 2 and 4.

References: P. Wernet et al., Science 304, 995 (2004); D. J. Barlow and J. M. Thornton, J. Mol. Biol. 168, 867 (1983).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mlsim.analysis.observables import CollectiveVariable, Observable
from mlsim.errors import InputError
from mlsim.shapes import Floats

if TYPE_CHECKING:
    import mdtraj

#: Greatest distance of N and O in a salt bridge, nm.
BRIDGE_NM = 0.4
_ACIDS = {"ASP": ("OD1", "OD2"), "GLU": ("OE1", "OE2")}
_BASES = {"LYS": ("NZ",), "ARG": ("NE", "NH1", "NH2"), "HIP": ("ND1", "NE2")}


def _hydrogen_bonds(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    import mdtraj

    if not any(a.element.symbol == "H" for a in topology.atoms):
        raise InputError("hbonds: expected a molecule with hydrogens, this topology has none")
    frames = mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), topology)
    return np.array([len(bonds) for bonds in mdtraj.wernet_nilsson(frames, periodic=False)], dtype=np.float64)


def _bridges(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    acids, bases = _charged(topology, _ACIDS), _charged(topology, _BASES)
    if not acids or not bases:
        raise InputError("salt-bridges: expected an acid (ASP, GLU) and a base (LYS, ARG, HIP) in the molecule")
    count = np.zeros(len(positions))
    for acid in acids.values():
        for base in bases.values():
            count += _nearest(positions, acid, base) < BRIDGE_NM
    return count


def _bridge(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    first, second = (int(number) for number in observable.selection.split(","))
    acids, bases = _charged(topology, _ACIDS), _charged(topology, _BASES)
    for acid, base in ((first, second), (second, first)):
        if acid in acids and base in bases:
            return _nearest(positions, acids[acid], bases[base])
    raise InputError(
        f"collective variable '{observable.text}': expected an acid and a base; "
        f"acids: {_listed(acids)}; bases: {_listed(bases)}"
    )


def _charged(topology: mdtraj.Topology, kinds: Mapping[str, tuple[str, ...]]) -> dict[int, list[int]]:
    """Charged atoms by residue number: of side chains of these kinds whose atoms are all there."""
    found = {}
    for residue in topology.residues:
        here = {a.name: a.index for a in residue.atoms}
        atoms = [here[name] for name in kinds.get(residue.name, ()) if name in here]
        if atoms:
            found[residue.resSeq] = atoms
    return found


def _nearest(positions: Floats, first: list[int], second: list[int]) -> Floats:
    apart = positions[:, first, None, :].astype(np.float64) - positions[:, None, second, :]
    return np.asarray(np.linalg.norm(apart, axis=-1).min(axis=(1, 2)))


def _listed(found: dict[int, list[int]]) -> str:
    return ", ".join(map(str, found)) or "none"


HYDROGEN_BONDS = CollectiveVariable(periodic=False, unit="", values=_hydrogen_bonds, discrete=True)
BRIDGES = CollectiveVariable(periodic=False, unit="", values=_bridges, discrete=True)
BRIDGE = CollectiveVariable(
    periodic=False,
    unit="nm",
    values=_bridge,
    selection="the numbers of an acid and a base, e.g. salt-bridge:2,4",
    form=r"-?\d+,-?\d+",
)
