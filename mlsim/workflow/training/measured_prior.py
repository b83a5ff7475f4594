"""The prior of an energy-based model, measured on the conformations that it is to learn.

    molecules   springs on bonds, angles and every other narrow distance; bounds on all the rest
    points      trap, cage, core

Everything is measured on the training conformations, with the noise of the density that is to be learned: spring
lengths and strengths, the bounds of all other distances, the core (0.95 of the smallest distance), the cage (1.2 of the
farthest point from the centre), the cutoff (1.2 of the largest distance, but at most 1.2 nm for molecules).

Why with noise: a bond that a simulation constrains has no width, which no density that is to be differentiated can
have, and the stiffest distance decides how long the steps of the negatives are. With 0.003 nm on every atom (0.1 of the
length of a molecule) the stiffest spring of a peptide is half as strong, and phi and psi blur by 4 degrees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsim.chem import cluster
from mlsim.chem.molecule import Molecule
from mlsim.chem.readers import points
from mlsim.models.ebm.prior import bounds_from, pooled, springs_from
from mlsim.shapes import Floats

#: Smallest standard deviation of a spring, reduced (0.003 nm: a C-H bond at room temperature).
_STIFFEST = 0.03
#: A distance that varies less than this, of the data's length, is held by a spring however many bonds it spans: some
#: distances across a double bond do.
_NARROW = 0.4
#: How far below its lowest value on the samples the network may go, kT.
_DEPTH = 10.0
#: Margins around what was seen.
_CORE, _CAGE, _CUTOFF, _LONGEST_CUTOFF = 0.95, 1.2, 1.2, 12.0


def measure(x: Floats, molecule: Molecule, space: int, length: float) -> dict[str, Any]:
    """Entries of :class:`mlsim.models.ebm.energy_based.EBMSettings` for the prior and the cutoff.

    Parameters
    ----------
    x : float [F, N, 3]
        Training conformations with the noise of the density that is to be learned, in reduced lengths.
    molecule : Molecule
    space : int
        2: the third coordinate is zero.
    length : float
        Characteristic length of the data, reduced.
    """
    offset = x - x.mean(axis=1, keepdims=True)
    pairs = np.stack(np.triu_indices(molecule.n_atoms, 1), axis=1)
    distance = np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1)
    reach = min(_CUTOFF * float(distance.max()), _LONGEST_CUTOFF)
    config: dict[str, Any] = {"cutoff_nm": cluster.LENGTH_NM * reach}
    close = _held_pairs(molecule)
    if close:
        neighbours, charges = map(tuple, _neighbours(molecule)), np.round(molecule.charges, 6).tolist()
        labels = list(zip(molecule.atom_types, charges, neighbours, strict=True))
        narrow = [values.std() < _NARROW * length for values in pooled(x, pairs, labels)]  # equal pairs alike
        held = np.array([tuple(pair) in close for pair in pairs.tolist()]) | narrow
        config["springs"] = springs_from(x, pairs[held], labels, _STIFFEST)
        config["bounds"] = bounds_from(x, pairs[~held], labels)
        config["depth"] = _DEPTH
    else:
        config["vocabulary"] = (points.ATOM_CLASS,)
        config["cage"] = _CAGE * float(np.linalg.norm(offset, axis=-1).max())
        config["core"] = _CORE * float(distance.min())
        freedom = space * (molecule.n_atoms - 1) / molecule.n_atoms
        config["trap"] = 0.5 * freedom / float((offset**2).sum(-1).mean())
    return config


def _neighbours(molecule: Molecule) -> list[list[int]]:
    near: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
    for i, j in molecule.bonds.tolist():
        near[i].append(j)
        near[j].append(i)
    return near


def _held_pairs(molecule: Molecule) -> set[tuple[int, int]]:
    """Pairs at one or two bonds, lower index first."""
    pairs = {(i, j) for i, j in molecule.bonds.tolist()}
    for centre in _neighbours(molecule):
        pairs |= {(min(i, j), max(i, j)) for i in centre for j in centre if i != j}
    return pairs
