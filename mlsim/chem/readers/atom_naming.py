"""Names and protonation: which state a residue of a file is in, and which of its atoms is which.

Heavy atoms are known by name (every dialect of OpenMM's ``pdbNames.xml``), hydrogens by name, or, where the name is
unknown, by the heavy atom they sit on, which is the nearest one. So is the state of a residue with a plain name:

    HIS   hydrogens on ND1 and NE2 -> HIP, on ND1 -> HID, else HIE
    ASP   a hydrogen on an oxygen of the side chain -> ASH (that oxygen is then OD2);   GLU -> GLH likewise
    LYS   two hydrogens on NZ -> LYN, else LYS
    CYS   sulfur within ``DISULFIDE_NM`` of another -> CYX

Symbols: ``named`` -> positions (nm) by OpenMM's names; ``raw`` -> a name as the file has it.
"""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.readers.atom_records import Place
from mlsim.chem.readers.residues import Residue, end_of, is_hydrogen_name
from mlsim.chem.sequence import (
    C_CAPS,
    D_AMINO_ACIDS,
    N_CAP,
    NOT_SUPPORTED,
    RESIDUE_ALIASES,
    VARIANTS,
    Sequence,
    from_states,
    is_known,
    residue_of,
    state_of,
)
from mlsim.chem.templates import atom_names, is_hydrogen, parent_names, standard_name
from mlsim.errors import InputError

#: Sulfur atoms nearer than this form a disulfide bond, nm.
DISULFIDE_NM = 0.25
Atoms = dict[str, NDArray[np.float64]]
_CARBOXYL = {"ASH": ("OD1", "OD2"), "GLH": ("OE1", "OE2")}


def disulfides(
    residues: ListOf[Residue], named: ListOf[tuple[Place, Place]], source: str
) -> tuple[tuple[int, int], ...]:
    """Pairs of cysteines whose sulfur atoms are bonded, by distance.

    Parameters
    ----------
    named : list of pairs of places
        Bonds that the file names (SSBOND); each must be one of those found.

    Raises
    ------
    InputError
        If a sulfur atom has two partners, or a bond that the file names is not there.
    """
    sulfurs = {k: x for k, r in enumerate(residues) if (x := end_of(r, "SG")) is not None}
    pairs = [
        (i, j) for i in sulfurs for j in sulfurs if i < j and np.linalg.norm(sulfurs[i] - sulfurs[j]) < DISULFIDE_NM
    ]
    for k in sulfurs:
        partners = [residues[j if i == k else i].label for i, j in pairs if k in (i, j)]
        if len(partners) > 1:
            raise InputError(f"{source}: the sulfur of {residues[k].label} is bonded to {' and to '.join(partners)}")
    places = {r.place: k for k, r in enumerate(residues)}
    for first, second in named:
        ends = tuple(sorted(places.get(place, -1) for place in (first, second)))
        if ends not in pairs:
            texts = [f"{place[0]} {place[1]}{place[2]}".strip() for place in (first, second)]
            raise InputError(
                f"{source}: a disulfide bond between the cysteines {texts[0]} and {texts[1]} is named, but their "
                f"sulfur atoms are not within {DISULFIDE_NM} nm of each other in the peptide; correct the file"
            )
    return tuple(pairs)


def sequence_of_file(residues: ListOf[Residue], bridges: tuple[tuple[int, int], ...], source: str) -> Sequence:
    """Residues and their states, from names and, where a name leaves it open, from hydrogens and bonds.

    Raises
    ------
    InputError
        If a residue is unknown or not supported, or an end has no parameters.
    """
    bridged = {k for pair in bridges for k in pair}
    states = [_state(r, k, len(residues), k in bridged, source) for k, r in enumerate(residues)]
    return from_states(states, source, bridges)


def _state(residue: Residue, k: int, count: int, is_bridged: bool, source: str) -> str:
    code = residue.known_code
    if len(code) == 4 and ((code[0] == "N" and k == 0) or (code[0] == "C" and k == count - 1)):
        code = RESIDUE_ALIASES.get(code[1:], code[1:])  # names of the ends in Amber
    if not is_known(code) and code not in NOT_SUPPORTED and code not in D_AMINO_ACIDS:
        raise InputError(
            f"{source}: unknown residue '{residue.code}' ({residue.label}): no amino acid, cap, water or ion that is "
            "known here; keep the peptide alone in the file"
        )
    state = state_of(code, f"{source}: residue {residue.label}")
    if is_bridged and state == "CYS":
        return "CYX"
    if code in VARIANTS or state in (N_CAP, *C_CAPS):
        return state
    seats = [_nearest(residue, x) for raw, x in residue.atoms.items() if is_hydrogen_name(raw)]
    if code == "HIS":
        return {(True, True): "HIP", (True, False): "HID"}.get(("ND1" in seats, "NE2" in seats), "HIE")
    if code == "LYS":
        return "LYN" if seats.count("NZ") == 2 else "LYS"
    for acid, oxygens in _CARBOXYL.items():
        if code == VARIANTS[acid] and set(oxygens) & set(seats):
            return acid
    return state


def _nearest(residue: Residue, position: NDArray[np.float64]) -> str:
    heavy = {raw: float(np.linalg.norm(x - position)) for raw, x in residue.atoms.items() if not is_hydrogen_name(raw)}
    return min(heavy, key=lambda raw: heavy[raw]) if heavy else ""


def named_atoms(residue: Residue, sequence: Sequence, k: int, source: str) -> Atoms:
    """Atoms under template names: heavy atoms by name, hydrogens by name or by the atom they sit on.

    Raises
    ------
    InputError
        If a heavy atom is unknown, missing (other than the last oxygen) or on top of another, or a hydrogen has no
        place.
    """
    expected, where = atom_names(sequence, k), f"{source}: residue {residue.label}"
    name = residue_of(sequence.states[k])
    named: Atoms = {}
    for raw in sorted(residue.atoms):
        known = standard_name(name, raw)
        if is_hydrogen_name(raw):
            continue
        if known not in expected or known in named:
            raise InputError(f"{where}: atom {raw} is not expected; expected {' '.join(expected)}")
        named[known] = residue.atoms[raw]
    lacking = [a for a in expected if not is_hydrogen(a) and a not in named and a != "OXT"]
    if lacking:
        raise InputError(
            f"{where} lacks heavy atoms {', '.join(lacking)}; complete the structure (for example with PDBFixer) "
            "and read it again"
        )
    for (first, x), (second, y) in combinations(named.items(), 2):
        if (x == y).all():
            raise InputError(f"{where}: atoms {first} and {second} are at the same place")
    _turn_carboxyl(residue, sequence.states[k], named)
    heavy, parents = dict(named), parent_names(name)
    unnamed: list[tuple[str, str]] = []
    for raw in filter(is_hydrogen_name, sorted(residue.atoms)):
        known, position = standard_name(name, raw), residue.atoms[raw]
        parent = min(heavy, key=lambda a: float(np.linalg.norm(heavy[a] - position)))
        if known in expected and known not in named and parents.get(known) == parent:
            named[known] = position
        else:
            unnamed.append((raw, parent))
    for raw, parent in unnamed:
        free = [a for a in expected if is_hydrogen(a) and parents.get(a) == parent and a not in named]
        if not free:
            raise InputError(
                f"{where}: hydrogen {raw} has no place at pH 7 (it sits on {parent}); expected {' '.join(expected)}"
            )
        named[free[0]] = residue.atoms[raw]
    return named


def _turn_carboxyl(residue: Residue, state: str, named: Atoms) -> None:
    """Name the oxygens of a neutral acid so that the hydrogen sits on the second, where the template has it."""
    first, second = _CARBOXYL.get(state, ("", ""))
    if not {first, second} <= named.keys():
        return
    seats = {raw: _nearest(residue, x) for raw, x in residue.atoms.items() if is_hydrogen_name(raw)}
    if first in seats.values() and second not in seats.values():
        named[first], named[second] = named[second], named[first]


def last_oxygen(named: Atoms) -> NDArray[np.float64]:
    """Place of the second oxygen of a charged end, nm: the first one mirrored at the CA-C axis, in its plane."""
    axis = named["C"] - named["CA"]
    axis = axis / np.linalg.norm(axis)
    bond = named["O"] - named["C"]
    place: NDArray[np.float64] = named["C"] + 2.0 * (bond @ axis) * axis - bond
    return place
