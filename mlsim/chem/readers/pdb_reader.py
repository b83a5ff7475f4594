"""PDB files: a peptide in any atom order and naming dialect becomes a Molecule in template order.

Why not OpenMM's reader alone: it keeps the order of the file, and a model trained on one atom order would silently be
applied to another. Here residues are sorted by chain and number, atoms by template; names of other programs are
translated (OpenMM's ``pdbNames.xml``), and hydrogens whose names are still unknown are recognised by the heavy atom
they sit on. Missing hydrogens are added; nothing else is guessed: missing heavy atoms, D-amino acids, chain breaks,
disulfides, ligands and a second chain are refused by name. Only the first model and the first alternate location of
an atom are read. Water and ions are left out with a warning, for solvent is added by the run that wants it. A file of
nothing but the points of a cluster is read as one (:mod:`mlsim.chem.cluster`).

Format: wwPDB, Atomic Coordinate Entry Format Version 3.3, section ATOM/HETATM.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import app

from mlsim.chem.assembly import assemble
from mlsim.chem.readers import points
from mlsim.chem.sequence import RESIDUE_ALIASES, VARIANTS, Sequence, from_states, state_of
from mlsim.chem.templates import (
    ION_NAMES,
    PROTEIN_FORCE_FIELD,
    WATER_NAMES,
    atom_names,
    is_hydrogen,
    parent_names,
    standard_name,
    state_from_atoms,
)
from mlsim.errors import InputError, MissingError
from mlsim.units import ANGSTROM_PER_NM

#: Longest C-N distance of a peptide bond, nm; beyond it the chain is broken.
PEPTIDE_BOND_NM = 0.20
#: Sulfur atoms nearer than this form a disulfide bond, nm.
DISULFIDE_NM = 0.25


@dataclass
class _Residue:
    """One residue as it stands in the file: raw atom names and positions in nm."""

    code: str
    number: str
    atoms: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    location: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.code}{self.number}"


@dataclass(frozen=True)
class PdbContent:
    """What a PDB file holds, in template order: name, topology, positions [N, 3] (nm), force field of its kind."""

    name: str
    topology: app.Topology
    positions: NDArray[np.float64]
    force_field: tuple[str, ...]
    is_peptide: bool
    file_order: NDArray[np.int64]


def read_pdb(path: str | Path) -> PdbContent:
    """Read a peptide or a cluster of points; :meth:`mlsim.chem.molecule.Molecule.from_pdb` makes the molecule.

    Parameters
    ----------
    path : str or Path
        A file with one peptide chain, or with points only.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is not a PDB file of one complete peptide; the message names the residue.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a PDB file")
    try:
        # a byte-order mark is no part of the first record; remarks may be in any encoding
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a PDB file") from None
    if "\0" in text:
        raise InputError(f"{path}: not a text file; expected a PDB file")
    parsed, places = _parse(text.splitlines(), str(path))
    if all(residue.code == points.RESIDUE for residue in parsed.values()):
        positions = np.array([atom for residue in parsed.values() for atom in residue.atoms.values()])
        order = _order(positions, places)
        return PdbContent(path.stem, points.topology_of(len(positions)), positions, (points.FORCE_FIELD,), False, order)
    residues, dropped = _select(parsed, str(path))
    if dropped:
        warnings.warn(f"{path}: {dropped} left out (solvent is added by the run)", stacklevel=3)
    sequence = _sequence(residues, str(path))
    coordinates = [_named(residue, sequence, k, str(path)) for k, residue in enumerate(residues)]
    _refuse_breaks(coordinates, residues, str(path))
    try:
        topology, found = assemble(path.stem, sequence, coordinates)
        return PdbContent(path.stem, topology, found, (PROTEIN_FORCE_FIELD,), True, _order(found, places))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _order(positions: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index in the file of every atom; -1 where none is at its place. What was in the file is kept exactly."""
    apart = np.abs(positions[:, None] - places[None]).max(axis=-1)
    return np.where(apart.min(axis=1) < 1e-9, apart.argmin(axis=1), -1).astype(np.int64)


def _parse(lines: Iterable[str], source: str) -> tuple[dict[tuple[str, int, str], _Residue], NDArray[np.float64]]:
    """Residues of the first model by (chain, number, insertion code), and the positions of all its atoms, nm."""
    residues: dict[tuple[str, int, str], _Residue] = {}
    places: list[NDArray[np.float64]] = []
    for number, line in enumerate(lines, start=1):
        record = line[:6].strip()
        if record == "ENDMDL":
            break
        if record not in ("ATOM", "HETATM"):
            continue
        try:
            key = (line[21].strip(), int(line[22:26]), line[26].strip())
            position = np.array([float(line[c : c + 8]) for c in (30, 38, 46)]) / ANGSTROM_PER_NM
        except (ValueError, IndexError):
            raise InputError(f"{source}, line {number}: expected a PDB atom record, got '{line.strip()}'") from None
        name, location, code = line[12:16].strip(), line[16].strip(), line[17:21].strip().upper()
        if not np.isfinite(position).all():
            where = f"atom {name} of {code}{key[1]}"
            raise InputError(f"{source}, line {number}: {where} has no finite coordinates: {line[30:54].strip()}")
        places.append(position)
        residue = residues.setdefault(key, _Residue(code, f"{key[1]}{key[2]}"))
        if residue.code != code and not location:
            raise InputError(f"{source}, line {number}: residue {residue.label} is also called {code}")
        if residue.code != code:
            continue  # another residue at the same place (microheterogeneity): the first is kept
        if name in residue.atoms:
            if location == residue.location[name]:
                raise InputError(f"{source}, line {number}: atom {name} of {residue.label} occurs twice")
            if location > residue.location[name]:
                continue
        residue.atoms[name], residue.location[name] = position, location
    if not residues:
        raise InputError(f"{source}: no ATOM records; expected a PDB file")
    return residues, np.array(places)


def _select(found: dict[tuple[str, int, str], _Residue], source: str) -> tuple[list[_Residue], str]:
    """The residues of the one peptide, in order, and what was left out, in words."""
    kept: dict[str, list[_Residue]] = {}
    waters = ions = 0
    for key in sorted(found):
        residue = found[key]
        code = residue.code
        if code in WATER_NAMES:
            waters += 1
        elif code in ION_NAMES and len(residue.atoms) == 1:
            ions += 1
        else:
            kept.setdefault(key[0], []).append(residue)
    if not kept:
        raise InputError(f"{source}: no amino acid in it")
    if len(kept) > 1:
        names = ", ".join(f"'{c}'" for c in kept)
        raise InputError(f"{source}: {len(kept)} chains ({names}); expected one peptide, keep one chain")
    parts = [f"{n} {what}" for n, what in ((waters, "water molecules"), (ions, "ions")) if n]
    return next(iter(kept.values())), " and ".join(parts)


def _sequence(residues: list[_Residue], source: str) -> Sequence:
    states = []
    for residue in residues:
        code = RESIDUE_ALIASES.get(residue.code, residue.code)
        state = state_of(code, f"{source}: residue {residue.label}")
        if code == VARIANTS.get(state, state):  # a plain name, so the hydrogens decide
            state = state_from_atoms(code, {standard_name(code, a) for a in residue.atoms})
        states.append(state)
    return from_states(states, source)


def _named(residue: _Residue, sequence: Sequence, k: int, source: str) -> dict[str, NDArray[np.float64]]:
    """Atoms under template names: heavy atoms by name, hydrogens by name or by the atom they sit on."""
    expected = atom_names(sequence, k)
    named: dict[str, NDArray[np.float64]] = {}
    unnamed: list[str] = []
    for raw in sorted(residue.atoms):
        name = standard_name(sequence.residues[k], raw)
        if name in expected and name not in named:
            named[name] = residue.atoms[raw]
        else:
            unnamed.append(raw)
    parents = parent_names(sequence.residues[k])
    for raw in unnamed:
        position = residue.atoms[raw]
        if not is_hydrogen(raw.lstrip("0123456789")):
            raise InputError(f"{source}: residue {residue.label}: atom {raw} is not expected; {_known(expected)}")
        heavy = {a: float(np.linalg.norm(x - position)) for a, x in named.items() if not is_hydrogen(a)}
        parent = min(heavy, key=lambda a: heavy[a]) if heavy else ""
        free = [a for a in expected if is_hydrogen(a) and parents.get(a) == parent and a not in named]
        if not free:
            raise InputError(
                f"{source}: residue {residue.label}: hydrogen {raw} has no place at pH 7 (it sits on {parent or '?'}); "
                f"{_known(expected)}"
            )
        named[free[0]] = position
    return named


def _known(expected: tuple[str, ...]) -> str:
    return f"expected {' '.join(expected)}"


def _refuse_breaks(coordinates: list[dict[str, NDArray[np.float64]]], residues: list[_Residue], source: str) -> None:
    for k in range(len(residues) - 1):
        before, after = coordinates[k], coordinates[k + 1]
        if "C" in before and "N" in after and np.linalg.norm(before["C"] - after["N"]) > PEPTIDE_BOND_NM:
            gap = float(np.linalg.norm(before["C"] - after["N"]))
            raise InputError(
                f"{source}: the chain is broken between {residues[k].label} and {residues[k + 1].label} "
                f"(C-N {gap:.2f} nm); expected one unbroken peptide"
            )
    sulfurs = [(r.label, c["SG"]) for r, c in zip(residues, coordinates, strict=True) if "SG" in c]
    for k, (label, position) in enumerate(sulfurs):
        for other, there in sulfurs[k + 1 :]:
            if np.linalg.norm(position - there) < DISULFIDE_NM:
                raise InputError(f"{source}: {label} and {other} form a disulfide bond, which is not supported")
