"""Conformational basins of a residue on the (phi, psi) torus.

What: the four basins in which a residue's free energy is usually told, as masks over frames or bins.

Definition (degrees, phi and psi in (-180, 180]), taken in this order so that every point is in exactly one basin:

    alphaL   0 < phi <= 130
    alphaR   otherwise, -120 < psi < 50
    PII      otherwise, phi > -110          (phi in (-110, 0]; and phi > 130, the far side of the torus, joins it)
    C5       otherwise

The far side phi > 130 holds next to nothing; it is part of the C5 strand in most figures, but the rule "phi > -110" is
kept literally so that populations agree with published ones computed by it. Basin free energies are relative to PII,
F_b = -kT ln(p_b / p_PII), kJ/mol.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlsim.shapes import Floats, Ints

#: Names in the order of the populations.
BASINS: tuple[str, ...] = ("alphaR", "PII", "C5", "alphaL")
#: Basin that the free energies of the others are relative to.
ORIGIN = "PII"
#: Rectangles (phi low, phi high, psi low, psi high), degrees, for figures; pieces of one basin share its name.
BOXES: tuple[tuple[str, float, float, float, float], ...] = (
    ("alphaL", 0.0, 130.0, -180.0, 180.0),
    ("alphaR", -180.0, 0.0, -120.0, 50.0),
    ("PII", -110.0, 0.0, 50.0, 180.0),
    ("C5", -180.0, -110.0, 50.0, 180.0),
    ("PII", -110.0, 0.0, -180.0, -120.0),
    ("C5", -180.0, -110.0, -180.0, -120.0),
)


#: What chemists call two of them where nothing is around the molecule.
_IN_VACUUM = {"PII": "C7eq", "alphaL": "C7ax"}


def shown(names: Sequence[str], solvents: Sequence[str]) -> list[str]:
    """Names for people: C7eq and C7ax in vacuum, both names where vacuum stands beside a solvent.

    Parameters
    ----------
    names : sequence of str
        Basins.
    solvents : sequence of str
        Solvents of the surfaces that are shown together.
    """
    bare = [solvent == "vacuum" for solvent in solvents]
    if not any(bare):
        return list(names)
    both = {n: _IN_VACUUM.get(n, n) if all(bare) else "/".join(dict.fromkeys([n, _IN_VACUUM.get(n, n)])) for n in names}
    return [both[name] for name in names]


def wrap_degrees(angle_rad: Floats) -> Floats:
    """Angles in degrees, in (-180, 180]."""
    degrees = np.degrees(angle_rad)
    return 180.0 - np.mod(180.0 - degrees, 360.0)


def assign(phi: Floats, psi: Floats) -> Ints:
    """Index into ``BASINS`` of every point.

    Parameters
    ----------
    phi, psi : [...]
        Dihedral angles, rad, any period.
    """
    phi_deg, psi_deg = wrap_degrees(np.asarray(phi)), wrap_degrees(np.asarray(psi))
    left = (phi_deg > 0.0) & (phi_deg <= 130.0)
    right = (psi_deg > -120.0) & (psi_deg < 50.0)
    index = np.where(phi_deg > -110.0, BASINS.index("PII"), BASINS.index("C5"))
    index = np.where(right, BASINS.index("alphaR"), index)
    return np.asarray(np.where(left, BASINS.index("alphaL"), index), dtype=np.int64)


def masks(phi: Floats, psi: Floats) -> dict[str, np.ndarray]:
    """One boolean array per basin, shaped like ``phi`` (rad)."""
    index = assign(phi, psi)
    return {name: index == number for number, name in enumerate(BASINS)}
