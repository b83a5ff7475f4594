"""Residues of the one peptide in a structure file, in the order of the chain.

    atom records -> solvent left out -> residues, one alternate location each -> caps of CHARMM split off -> order

Solvent is told from the peptide by its residue name, not by its number: programs number it anew from 1 or from 0 after
9,999. Of alternate locations one is taken for a whole residue: one that has all its heavy atoms, of those the one of
highest occupancy, of those the first. The order is that of the file; only where that breaks the chain is it that of the
numbers, and where that breaks it too, that of the peptide bonds.

Symbols: C, N -> ends of a peptide bond, at most ``PEPTIDE_BOND_NM`` apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mlsim.chem.readers.atom_records import AtomRecord, Place
from mlsim.chem.sequence import C_CAPS, N_CAP, RESIDUE_ALIASES
from mlsim.chem.templates import is_ion, is_water, standard_name
from mlsim.errors import InputError

#: Longest C-N distance of a peptide bond, nm; beyond it the chain is broken.
PEPTIDE_BOND_NM = 0.20
#: Names of caps and cysteines in files only: in a sequence they would be one-letter codes or a misspelling.
_FILE_ALIASES = {"NAC": "NME", "CYS2": "CYX", "CYSS": "CYX"}
#: Caps that CHARMM writes into the residue beside them: atoms that show one, all its atoms, and the residue it is.
_PATCHES = (
    ({"CAY", "CY"}, {"CAY", "HY1", "HY2", "HY3", "CY", "OY"}, "ACE"),
    ({"NT", "CAT"}, {"NT", "HNT", "CAT", "HT1", "HT2", "HT3"}, "NME"),
    ({"NT"}, {"NT", "HT1", "HT2"}, "NH2"),
)


@dataclass(frozen=True, eq=False)
class Residue:
    """One residue as it stands in the file: raw atom names and positions in nm."""

    code: str
    place: Place
    atoms: dict[str, NDArray[np.float64]]

    @property
    def label(self) -> str:
        """Name and number, for messages."""
        return f"{self.code}{self.place[1]}{self.place[2]}"

    @property
    def known_code(self) -> str:
        """Name of the residue in the names used here, if it is one of another program."""
        return _FILE_ALIASES.get(self.code, RESIDUE_ALIASES.get(self.code, self.code))


def peptide_residues(atoms: Iterable[AtomRecord], source: str) -> tuple[list[Residue], str]:
    """The residues of the one peptide, in order, and what was left out, in words.

    Raises
    ------
    InputError
        If there is no peptide, more than one chain, or an atom twice.
    """
    grouped: dict[Place, list[AtomRecord]] = {}
    solvent: list[AtomRecord] = []
    for atom in atoms:
        if is_water(atom.code) or is_ion(atom.code):
            solvent.append(atom)
        else:
            grouped.setdefault(atom.place, []).append(atom)
    if not grouped:
        raise InputError(f"{source}: no amino acid in it")
    chains = list(dict.fromkeys(place[0] for place in grouped))
    if len(chains) > 1:
        names = ", ".join(f"'{c}'" for c in chains)
        raise InputError(f"{source}: {len(chains)} chains ({names}); expected one peptide, keep one chain")
    residues = [part for place, found in grouped.items() for part in _split(_one_location(place, found, source))]
    return in_chain_order(residues), _in_words(solvent)


def in_chain_order(residues: list[Residue]) -> list[Residue]:
    """Residues in the order of the file, of their numbers, or of their peptide bonds: the first that is unbroken."""
    if _is_unbroken(residues):
        return residues
    by_number = sorted(residues, key=lambda r: (_number(r.place[1]), r.place[2]))
    return by_number if _is_unbroken(by_number) else _linked(residues) or by_number


def _is_unbroken(residues: list[Residue]) -> bool:
    return all(_gap(before, after) <= PEPTIDE_BOND_NM for before, after in pairwise(residues))


def end_of(residue: Residue, atom: str) -> NDArray[np.float64] | None:
    """Position of an atom by OpenMM's name, whatever the file calls it."""
    return next((x for raw, x in residue.atoms.items() if standard_name(residue.code, raw) == atom), None)


def _gap(before: Residue, after: Residue) -> float:
    """C-N distance between two residues, nm; 0 where one of the atoms is missing (which is found elsewhere)."""
    if after.known_code == N_CAP or before.known_code in C_CAPS:
        return float("inf")
    c, n = end_of(before, "C"), end_of(after, "N")
    return 0.0 if c is None or n is None else float(np.linalg.norm(c - n))


def _linked(residues: list[Residue]) -> list[Residue]:
    """Residues along their peptide bonds, from the one whose N is bonded to none; empty if they are no one chain."""
    nowhere = np.full(3, np.inf)
    c, n = (np.array([nowhere if (x := end_of(r, atom)) is None else x for r in residues]) for atom in ("C", "N"))
    known = np.isfinite(c).all(axis=1)[:, None] & np.isfinite(n).all(axis=1)[None]
    bonded = known & (cdist(np.where(np.isfinite(c), c, 0.0), np.where(np.isfinite(n), n, 0.0)) <= PEPTIDE_BOND_NM)
    np.fill_diagonal(bonded, False)
    starts = np.flatnonzero(~bonded.any(axis=0))
    if len(starts) != 1 or bonded.sum(axis=0).max() > 1 or bonded.sum(axis=1).max() > 1:
        return []
    order = [int(starts[0])]  # every residue has at most one neighbour on either side, so this ends
    while bonded[order[-1]].any():
        order.append(int(bonded[order[-1]].argmax()))
    return [residues[k] for k in order] if len(order) == len(residues) else []


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float("inf")


def _one_location(place: Place, atoms: list[AtomRecord], source: str) -> Residue:
    """A residue in one of its alternate locations, complete if one is."""
    for (_, name, code), count in Counter((a.location, a.name, a.code) for a in atoms).items():
        if count > 1:
            where = next(a for a in reversed(atoms) if a.name == name)
            raise InputError(f"{source}, line {where.line}: atom {name} of {code}{place[1]}{place[2]} occurs twice")
    shared = [a for a in atoms if not a.location]
    choices = sorted({a.location for a in atoms} - {""}) or [""]
    ranked = []
    for location in choices:
        own = [a for a in atoms if a.location == location]
        codes = list(dict.fromkeys(a.code for a in own))
        if len(codes) > 1:
            other = next(a for a in own if a.code == codes[1])
            label = f"{codes[0]}{place[1]}{place[2]}"
            raise InputError(f"{source}, line {other.line}: residue {label} is also called {codes[1]}")
        members = own if not location else [a for a in shared if a.code == codes[0]] + own
        every = {a.name for a in atoms if a.code == codes[0] and not is_hydrogen_name(a.name)}
        complete = every <= {a.name for a in members}
        occupancy = float(np.mean([a.occupancy for a in own]))
        ranked.append((not complete, -occupancy, location, Residue(codes[0], place, _atoms(members))))
    return min(ranked, key=lambda entry: entry[:3])[3]


def is_hydrogen_name(raw: str) -> bool:
    """Whether a file's name of an atom is one of a hydrogen (or deuterium); no heavy atom of a peptide is so called."""
    return raw.lstrip("0123456789").startswith(("H", "D"))


def _atoms(members: list[AtomRecord]) -> dict[str, NDArray[np.float64]]:
    return {re.sub(r"^(\d*)D", r"\1H", a.name): a.position for a in members}


def _split(residue: Residue) -> list[Residue]:
    """The residue, and before or behind it the caps that CHARMM wrote into it."""
    parts, atoms = [residue.code], dict(residue.atoms)
    caps: dict[str, dict[str, NDArray[np.float64]]] = {}
    for shows, names, code in _PATCHES:
        if shows <= atoms.keys() and not {"N", "CA", "C"} <= names and {"N", "CA", "C"} <= atoms.keys():
            caps[code] = {name: atoms.pop(name) for name in list(atoms) if name in names}
            parts = [code, *parts] if code == "ACE" else [*parts, code]
    return [Residue(code, residue.place, caps.get(code, atoms)) for code in parts]


def _in_words(solvent: list[AtomRecord]) -> str:
    waters = [a for a in solvent if is_water(a.code)]
    oxygens = sum(a.name.startswith("O") for a in waters)
    counts = ((oxygens or len({a.place for a in waters}), "water molecules"), (len(solvent) - len(waters), "ions"))
    return " and ".join(f"{n} {what}" for n, what in counts if n)
