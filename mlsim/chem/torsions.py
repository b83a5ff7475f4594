"""Backbone torsions from positions (numpy only; used where frames are made, before any trajectory exists).

Convention: IUPAC, trans = pi, sign as in mdtraj and OpenMM; in (-pi, pi].
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError


class Chain(Protocol):
    """A molecule that knows its backbone (:class:`mlsim.chem.molecule.Molecule`)."""

    @property
    def name(self) -> str:
        """Name, for messages."""

    @property
    def backbone(self) -> tuple[tuple[str, tuple[int, ...] | None, tuple[int, ...] | None], ...]:
        """Per amino acid its label and the atoms of phi and psi."""


def dihedrals(positions: NDArray[np.float64], quadruples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dihedral angles, rad.

    Parameters
    ----------
    positions : [..., N, 3], nm
    quadruples : int [K, 4]

    Returns
    -------
    float64 [..., K]
    """
    p0, p1, p2, p3 = (np.asarray(positions, dtype=np.float64)[..., quadruples[:, k], :] for k in range(4))
    b0, b1, b2 = p1 - p0, p2 - p1, p3 - p2
    n0, n1 = np.cross(b0, b1), np.cross(b1, b2)
    x = (n0 * n1).sum(axis=-1)
    y = (np.cross(n0, n1) * b1).sum(axis=-1) / np.linalg.norm(b1, axis=-1)
    return np.arctan2(y, x)


def ramachandran_atoms(molecule: Chain) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Residues that have both phi and psi.

    Returns
    -------
    labels : tuple of str
        E.g. ``("ALA2",)``.
    quadruples : int [R, 2, 4]
        Atoms of phi and psi of each.

    Raises
    ------
    InputError
        If the molecule has no residue with both angles.
    """
    both = [(label, phi, psi) for label, phi, psi in molecule.backbone if phi is not None and psi is not None]
    if not both:
        raise InputError(f"{molecule.name}: expected at least one residue with both phi and psi, got none")
    return tuple(b[0] for b in both), np.array([[b[1], b[2]] for b in both], dtype=np.int64)
