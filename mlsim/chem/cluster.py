"""Clusters of equal points as molecules, so that a learned energy of DW-4 or LJ-13 runs like one of a peptide.

A point is a neutral particle of argon's mass without bonds and without any interaction of its own (``points.xml``);
all its forces come from the potential it is run with. One reduced length is 0.1 nm (one angstrom, the unit of a PDB
file), so that files show the cluster as its target defines it. In files a point is the residue ``PNT``; a PDB file made
of nothing else is read back as a cluster (``pdb_reader``).

    dw4        four points in the plane z = 0, a rhombus near the deepest minimum
    lj13       icosahedron, nearest neighbours 1 apart
    points:N   N points on a grid 1 apart
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlsim.chem.molecule import Molecule
from mlsim.chem.readers.points import FORCE_FIELD, topology_of
from mlsim.errors import InputError
from mlsim.shapes import Floats, require_shape
from mlsim.units import ANGSTROM_PER_NM

#: Length of one reduced unit, nm.
LENGTH_NM = 1.0 / ANGSTROM_PER_NM
_MOST_POINTS = 9999


def cluster(name: str, positions: object) -> Molecule:
    """A cluster of points.

    Parameters
    ----------
    name : str
    positions : array_like [N, 3], nm

    Raises
    ------
    InputError
        If shape or values of ``positions`` are wrong.
    """
    xyz = require_shape(positions, (None, 3), f"positions of {name} (nm)").astype(np.float64)
    if not 1 <= len(xyz) <= _MOST_POINTS:
        raise InputError(f"{name}: expected 1 to {_MOST_POINTS} points, got {len(xyz)}")
    return Molecule(name, topology_of(len(xyz)), xyz, np.arange(len(xyz)), None, (FORCE_FIELD,))


def named(name: str) -> Molecule | None:
    """The cluster called ``name`` (``dw4``, ``lj13`` or ``points:N``), or None if it is not the name of one.

    Raises
    ------
    InputError
        If N is not a number of points.
    """
    kind, _, count = name.partition(":")
    if kind == "points":
        if not count.isdigit() or not 1 <= int(count) <= _MOST_POINTS:
            raise InputError(f"'{name}': expected points:N with N from 1 to {_MOST_POINTS}")
        return cluster(f"points-{count}", LENGTH_NM * _grid(int(count)))
    return cluster(name, LENGTH_NM * _SHAPES[name]()) if name in _SHAPES else None


def _rhombus() -> Floats:
    return np.array([[2.6, 0.0, 0.0], [-2.6, 0.0, 0.0], [0.0, 1.3, 0.0], [0.0, -1.3, 0.0]])


def _icosahedron() -> Floats:
    golden = (1.0 + 5.0**0.5) / 2.0
    corners = [[0.0, a, b * golden] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    shell = np.array([np.roll(corner, k) for k in range(3) for corner in corners])
    return np.concatenate([np.zeros((1, 3)), shell / np.linalg.norm(shell[0])])


def _grid(count: int) -> Floats:
    side = int(np.ceil(count ** (1.0 / 3.0)))
    return np.stack(np.meshgrid(*[np.arange(float(side))] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:count]


_SHAPES: dict[str, Callable[[], Floats]] = {"dw4": _rhombus, "lj13": _icosahedron}
