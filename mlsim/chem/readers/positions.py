"""Positions that come from outside: are they those of this molecule, in this order, whole, and in nanometres?

One check for every door. Wrong units, another atom order, molecules cut by the periodic box, atoms at the origin and
numbers that are none all show in the bonds:

    0.06 nm < |r_i - r_j| < 0.21 nm            (0.15 nm where one of the two is a hydrogen)

Where a box is known a molecule that it cuts is put together again, bond by bond (minimum image); otherwise it is
refused. Frames whose molecule is whole are left as they are, because files without periodicity often hold a placeholder
for the box (zeros, or edges of 0.1 nm).

Symbols: r -> ``positions``; i, j -> ``bonds``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError

#: Longest bond between heavy atoms, and to a hydrogen, nm.
HEAVY_BOND_NM, HYDROGEN_BOND_NM = 0.21, 0.15
#: Shortest bond, nm.
SHORTEST_BOND_NM = 0.06
#: A bond longer than this, while most are right, goes across a periodic box, nm.
_ACROSS_NM = 0.5
#: Bonds this many times too long or too short are a question of units.
_UNITS = 5.0


def require_sound(
    positions: NDArray[np.floating],
    bonds: NDArray[np.int64],
    elements: Sequence[str],
    source: str,
    slack_nm: float = 0.0,
) -> None:
    """Refuse positions that are no conformations of a molecule.

    Parameters
    ----------
    positions : float [F, N, 3], nm
    bonds : int [M, 2]
    elements : sequence of str, length N
    source : str
        Where they are from, for the message.
    slack_nm : float
        How much longer than usual a bond may be, nm.

    Raises
    ------
    InputError
        In one line: the frame, the bond, its length, and what the reason may be.
    """
    finite = np.isfinite(positions).all(axis=(1, 2))
    if not finite.all():
        raise InputError(f"{source}: frame {int(np.argmin(finite))} holds positions that are no numbers")
    if not len(bonds) or not len(positions):
        return
    first, second = bonds.T
    lengths = np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)
    hydrogen = np.array([element == "H" for element in elements])
    most = np.where(hydrogen[first] | hydrogen[second], HYDROGEN_BOND_NM, HEAVY_BOND_NM) + slack_nm
    wrong = (lengths > most) | (lengths < SHORTEST_BOND_NM)
    if not wrong.any():
        return
    frame = int(wrong.any(axis=1).argmax())
    bond = int(np.flatnonzero(wrong[frame])[0])
    count = int(wrong[frame].sum())
    median = float(np.median(lengths[frame]))
    if not 1 / _UNITS < median / 0.12 < _UNITS:
        why = f"bonds are {median:.2g} nm long in the middle: are these nanometres?"
    elif count <= max(4, len(bonds) // 5) and lengths[frame].max() > _ACROSS_NM:
        why = "make molecules whole across the periodic box first"
    else:
        why = "are the atoms in the order of the topology?"
    raise InputError(
        f"{source}: bond {first[bond]}-{second[bond]} is {lengths[frame, bond]:.3f} nm long in frame {frame} "
        f"(expected {SHORTEST_BOND_NM} to {most[bond]:.2f} nm; {count} of {len(bonds)} are out); {why}"
    )


def made_whole(
    positions: NDArray[np.floating], boxes: NDArray[np.floating], bonds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Positions with every bonded atom at the nearest image of its neighbour, in the frames that the box cuts.

    Parameters
    ----------
    positions : float [F, N, 3], nm
    boxes : float [F, 3, 3], nm
        Periodic box vectors (rows). A frame whose box has no volume is left as it is.
    bonds : int [M, 2]

    Returns
    -------
    float64 [F, N, 3], nm
    """
    joined = np.array(positions, dtype=np.float64)
    vectors: NDArray[np.float64] = np.asarray(boxes, dtype=np.float64)
    first, second = np.asarray(bonds, dtype=np.int64).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):  # numbers that are none are found by require_sound
        long = np.linalg.norm(joined[:, first] - joined[:, second], axis=-1) > HEAVY_BOND_NM
        volume = np.linalg.det(vectors)
        cut = np.flatnonzero(long.any(axis=1) & np.isfinite(volume) & (np.abs(volume) > HEAVY_BOND_NM**3))
    joined[cut] = _joined(joined[cut], vectors[cut], bonds)
    return joined


def _joined(whole: NDArray[np.float64], boxes: NDArray[np.float64], bonds: NDArray[np.int64]) -> NDArray[np.float64]:
    inverse = np.linalg.inv(boxes)
    neighbours: dict[int, list[int]] = {}
    for i, j in bonds.tolist():
        neighbours.setdefault(i, []).append(j)
        neighbours.setdefault(j, []).append(i)
    seen: set[int] = set()
    for root in sorted(neighbours):
        if root in seen:
            continue
        seen.add(root)
        queue = [root]
        while queue:
            i = queue.pop()
            for j in neighbours[i]:
                if j in seen:
                    continue
                step = whole[:, j] - whole[:, i]
                turns = np.round(np.einsum("fi,fij->fj", step, inverse))
                whole[:, j] = whole[:, i] + step - np.einsum("fi,fij->fj", turns, boxes)
                seen.add(j)
                queue.append(j)
    return whole
