"""Checks: is this structure an L-peptide that a simulation may start from?

For every amino acid the chirality at CA (and at CB of isoleucine and threonine), for every peptide bond the angle
omega, for the whole molecule bond lengths and the closest non-bonded contacts. A chiral centre X with neighbours
a, b, c in falling order (N, C, CB at CA; CA, CG1 or OG1, CG2 at CB) has the natural hand where the volume

    V = (a - X) . ((b - X) x (c - X))

is positive (about 2.5e-3 nm^3; the same sign rule for all of them, glycine has none). A peptide bond is trans
where ``|omega| > 150 deg`` and cis where ``|omega| < 30 deg``; a cis bond is accepted before proline only.
Contacts leave out atoms one or two bonds apart.
"""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mlsim.chem.readers.positions import HEAVY_BOND_NM, HYDROGEN_BOND_NM, SHORTEST_BOND_NM
from mlsim.chem.torsions import dihedrals
from mlsim.errors import InputError

#: Least |omega| of a trans peptide bond, degrees.
TRANS_DEG = 150.0
#: Least distance between heavy atoms that are more than two bonds apart, nm.
HEAVY_CONTACT_NM = 0.20
#: The same with at least one hydrogen, nm.
HYDROGEN_CONTACT_NM = 0.13
#: Least chirality volume that is not flat, nm^3.
FLAT_NM3 = 5e-4

_CENTRES = (("CA", ("N", "C", "CB")), ("CB", ("CA", "CG1", "CG2")), ("CB", ("CA", "OG1", "CG2")))
#: Valine has CG1 and CG2, but its CB is no stereocentre.
_TWO_CENTRES = frozenset({"ILE", "THR"})


class Structure(Protocol):
    """What is looked at: atoms with positions and bonds (a :class:`mlsim.chem.molecule.Molecule`)."""

    @property
    def topology(self) -> Any:
        """OpenMM topology."""

    @property
    def positions(self) -> NDArray[np.float64]:
        """Positions [N, 3], nm."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""

    @property
    def bonds(self) -> NDArray[np.int64]:
        """Bonded pairs [M, 2]."""

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols."""

    @property
    def atom_names(self) -> tuple[str, ...]:
        """PDB names."""

    def solute_molecule(self) -> Structure:
        """The solute alone."""


@dataclass(frozen=True)
class Check:
    """One question about a structure.

    Attributes
    ----------
    name : str
        What was looked at.
    passed : bool
    detail : str
        The measured value and where it occurs.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks of one molecule."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(c.passed for c in self.checks)

    def lines(self) -> tuple[str, ...]:
        """One line per check."""
        width = max(len(c.name) for c in self.checks)
        return tuple(f"{'ok  ' if c.passed else 'FAIL'} {c.name:<{width}}  {c.detail}" for c in self.checks)

    def require(self, source: str, names: ListOf[str] = ()) -> None:
        """Refuse a structure that failed (only the checks in ``names``, or all of them).

        Raises
        ------
        InputError
            Naming the first failed check.
        """
        for check in self.checks:
            if not check.passed and (not names or check.name in names):
                raise InputError(f"{source}: {check.name}: {check.detail}")


def check(molecule: Structure) -> Report:
    """Examine the solute of a molecule."""
    alone = molecule.solute_molecule()
    finite = np.isfinite(alone.positions).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        return Report((Check("finite coordinates", False, f"atom {bad} ({alone.atom_names[bad]}) is not a number"),))
    return Report(
        (
            Check("finite coordinates", True, f"{alone.n_atoms} atoms"),
            _check_bonds(alone),
            _check_chirality(alone),
            _check_peptide_bonds(alone),
            _check_contacts(alone, "heavy atom contacts"),
            _check_contacts(alone, "hydrogen contacts"),
        )
    )


def chirality(molecule: Structure) -> tuple[tuple[str, str, float], ...]:
    """Chirality volumes ``(residue label, centre, volume in nm^3)``; positive is the natural hand."""
    found = []
    for label, atoms in _residues(molecule):
        for centre, neighbours in _CENTRES:
            present = {centre, *neighbours} <= atoms.keys()
            if not present or (centre == "CB" and label[:3] not in _TWO_CENTRES):
                continue
            a, b, c = (atoms[n] - atoms[centre] for n in neighbours)
            found.append((label, centre, float(a @ np.cross(b, c))))
    return tuple(found)


def omegas(molecule: Structure) -> tuple[tuple[str, str, float], ...]:
    """Peptide bond angles ``(label of the residue before, after, omega in degrees)``; caps included."""
    residues = _residues(molecule)
    found = []
    for (before, x), (after, y) in pairwise(residues):
        start = x.get("CA", x.get("CH3"))  # acetyl
        end = y.get("CA", y.get("C"))  # N-methyl, which has no other carbon
        if start is None or end is None or "C" not in x or "N" not in y:
            continue
        angle = dihedrals(np.array([start, x["C"], y["N"], end]), np.arange(4).reshape(1, 4))
        found.append((before, after, float(np.degrees(angle[0]))))
    return tuple(found)


def closest_contact(molecule: Structure, name: str = "heavy atom contacts") -> tuple[int, int, float]:
    """Closest pair more than two bonds apart: ``(i, j, distance in nm)``, either heavy or with a hydrogen."""
    n = molecule.n_atoms
    bonded = np.eye(n, dtype=bool)
    bonded[molecule.bonds[:, 0], molecule.bonds[:, 1]] = True
    bonded |= bonded.T
    near = (bonded.astype(np.float32) @ bonded.astype(np.float32)) > 0  # of floats, because those are multiplied fast
    hydrogen = np.array([e == "H" for e in molecule.elements])
    heavy = ~hydrogen[:, None] & ~hydrogen[None, :]
    wanted = heavy if name == "heavy atom contacts" else ~heavy
    distance = np.where(wanted & ~near, cdist(molecule.positions, molecule.positions), np.inf)
    i, j = np.unravel_index(int(np.argmin(distance)), distance.shape)
    return int(i), int(j), float(distance[i, j])


def _check_bonds(molecule: Structure) -> Check:
    first, second = molecule.bonds.T
    length = np.linalg.norm(molecule.positions[first] - molecule.positions[second], axis=1)
    hydrogen = np.array([e == "H" for e in molecule.elements])
    limit = np.where(hydrogen[first] | hydrogen[second], HYDROGEN_BOND_NM, HEAVY_BOND_NM)
    long, short = length > limit, length < SHORTEST_BOND_NM
    # coordinates in nm: most bonds are too short, and hydrogens that were added to them stand anywhere
    if long.any() and 2 * short.sum() < (~(hydrogen[first] | hydrogen[second])).sum():
        worst, count = int(np.argmax(length / limit)), f"{int(long.sum())} of {len(length)} too long"
        limits = f"(at most {limit[worst]:.2f}); {count}"
    elif short.any():
        worst, count = int(np.argmin(length)), f"{int(short.sum())} of {len(length)} too short"
        limits = f"(at least {SHORTEST_BOND_NM}); {count}; is the file in Angstrom?"
    else:
        return Check("bond lengths", True, f"{len(length)} bonds, longest {length.max():.3f} nm")
    where = f"{_atom(molecule, int(first[worst]))} - {_atom(molecule, int(second[worst]))}"
    return Check("bond lengths", False, f"{where} is {length[worst]:.3f} nm long {limits}")


def _check_chirality(molecule: Structure) -> Check:
    centres = chirality(molecule)
    wrong = [f"{label} at {centre}" for label, centre, volume in centres if volume < -FLAT_NM3]
    flat = [f"{label} at {centre}" for label, centre, volume in centres if abs(volume) <= FLAT_NM3]
    if wrong:
        return Check("chirality", False, f"not the L form: {', '.join(wrong)}; only L-amino acids are supported")
    if flat:
        return Check("chirality", False, f"flat centre: {', '.join(flat)}")
    return Check("chirality", True, f"{len(centres)} centres, all L" if centres else "no stereocentre")


def _check_peptide_bonds(molecule: Structure) -> Check:
    bonds = omegas(molecule)
    cis = [f"{a}-{b}" for a, b, w in bonds if b.startswith("PRO") and abs(w) < 180.0 - TRANS_DEG]
    bad = [f"{a}-{b} {w:.0f} deg" for a, b, w in bonds if abs(w) <= TRANS_DEG and f"{a}-{b}" not in cis]
    if bad:
        return Check("peptide bonds", False, f"not trans (|omega| <= {TRANS_DEG:.0f} deg): {', '.join(bad)}")
    least = min((abs(w) for a, b, w in bonds if f"{a}-{b}" not in cis), default=180.0)
    also = f"; cis: {', '.join(cis)}" if cis else ""
    return Check("peptide bonds", True, f"{len(bonds) - len(cis)} trans, least |omega| {least:.0f} deg{also}")


def _check_contacts(molecule: Structure, name: str) -> Check:
    i, j, distance = closest_contact(molecule, name)
    limit = HEAVY_CONTACT_NM if name == "heavy atom contacts" else HYDROGEN_CONTACT_NM
    where = f"{_atom(molecule, i)} - {_atom(molecule, j)}"
    return Check(name, distance > limit, f"closest {distance:.3f} nm, {where} (limit {limit:.2f})")


def _residues(molecule: Structure) -> list[tuple[str, dict[str, NDArray[np.float64]]]]:
    top = molecule.topology
    return [(f"{r.name}{r.id}", {a.name: molecule.positions[a.index] for a in r.atoms()}) for r in top.residues()]


def _atom(molecule: Structure, index: int) -> str:
    atom = list(molecule.topology.atoms())[index]
    return f"{atom.residue.name}{atom.residue.id}:{atom.name}"
