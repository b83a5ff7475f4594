"""Secondary structure by DSSP (mdtraj): how many residues are helix or strand, and what one residue is.

    helicity, strand      number of residues in a helix (H, G, I) or an extended strand (E, B), of those with a backbone
    dssp:3                0 for coil, 1 for helix, 2 for strand, of residue 3

Counts, not fractions: each is an integer with a bin of its own.

Reference: W. Kabsch and C. Sander, Biopolymers 22, 2577 (1983).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlsim.analysis.observables import CollectiveVariable, Observable
from mlsim.analysis.variables import selections
from mlsim.errors import InputError
from mlsim.shapes import Floats

if TYPE_CHECKING:
    import mdtraj

_CODE = {"C": 0.0, "H": 1.0, "E": 2.0}
_COUNTED = {"helicity": "H", "strand": "E"}


def residues(topology: mdtraj.Topology, name: str) -> tuple[tuple[int, ...], int | None]:
    """Numbers of the residues with a whole backbone, and the only one if there is one."""
    found = tuple(r.resSeq for r in topology.residues if _has_backbone(r))
    return found, found[0] if len(found) == 1 else None


def _count(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    letters = _letters(positions, topology, observable)
    return np.asarray((letters == _COUNTED[observable.name]).sum(axis=1), dtype=np.float64)


def _one(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    known, default = residues(topology, observable.name)
    number = selections.residue(dict.fromkeys(known), default, observable)
    index = next(r.index for r in topology.residues if r.resSeq == number and _has_backbone(r))
    column = _letters(positions, topology, observable)[:, index]
    return np.array([_CODE[letter] for letter in column])


def _letters(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> np.ndarray:
    """H, E or C of every residue, NA for one without a backbone: [F, residues]."""
    import mdtraj

    if not any(_has_backbone(r) for r in topology.residues):
        raise InputError(f"{observable.name}: no residue of this molecule has a backbone (N, CA, C, O)")
    frames = mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), topology)
    return np.asarray(mdtraj.compute_dssp(frames, simplified=True))


def _has_backbone(residue: mdtraj.core.topology.Residue) -> bool:
    return {"N", "CA", "C", "O"} <= {a.name for a in residue.atoms}


COUNT = CollectiveVariable(periodic=False, unit="", values=_count, discrete=True)
CODE = CollectiveVariable(
    periodic=False,
    unit="",
    values=_one,
    selection="residue number, e.g. dssp:3",
    form=r"(-?\d+)?",
    discrete=True,
    residues=residues,
)
