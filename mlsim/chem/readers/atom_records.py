"""Atom records of a structure file, as they stand there: PDB or mmCIF, plain or compressed with gzip.

Only the first model is taken, and of frames that are separated by END (as VMD writes them) only the first frame. A
byte-order mark is no part of the first record, and remarks may be in any encoding. What the records mean is decided
elsewhere (:mod:`mlsim.chem.readers.residues`).

Formats: wwPDB, Atomic Coordinate Entry Format Version 3.3, sections ATOM/HETATM and SSBOND; PDBx/mmCIF dictionary,
categories atom_site and struct_conn.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.readers import mmcif
from mlsim.errors import InputError, MissingError
from mlsim.units import ANGSTROM_PER_NM

#: Endings of structure files that are read, each also with ``.gz``.
PDB_ENDINGS, MMCIF_ENDINGS = (".pdb", ".ent"), (".cif", ".mmcif", ".pdbx")
#: Most bytes of a structure file, or of its first model, after decompression: that of half a million atoms.
LARGEST = 50_000_000
#: Chain, number and insertion code: the place of a residue.
Place = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class AtomRecord:
    """One atom: where it is said (``line``), its residue (``place``, ``code``), and itself (position in nm)."""

    line: int
    place: Place
    code: str
    name: str
    location: str
    occupancy: float
    position: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StructureFile:
    """Atoms of the first model, the disulfide bonds that the file names, and whether further frames follow."""

    atoms: tuple[AtomRecord, ...]
    bridges: tuple[tuple[Place, Place], ...] = ()
    has_more_frames: bool = False


def is_structure_file(name: str | Path) -> bool:
    """Whether a name ends like one of a file that :func:`read_atoms` reads."""
    return _ending(Path(name)) in (*PDB_ENDINGS, *MMCIF_ENDINGS)


def read_atoms(path: Path) -> StructureFile:
    """Read the atom records of a file.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no text, no such format, or holds no atoms.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a PDB or mmCIF file")
    text = _text(path)
    found = _of_mmcif(text, str(path)) if _ending(path) in MMCIF_ENDINGS else _of_pdb(text, str(path))
    if not found.atoms:
        raise InputError(f"{path}: no ATOM records; expected a PDB or mmCIF file")
    return found


def _ending(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as handle:
            compressed = handle.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else open(path, "rb") as handle:
            content = handle.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > LARGEST:
        first_model = content.find(b"\nENDMDL")
        if first_model < 0 or _ending(path) in MMCIF_ENDINGS:
            raise InputError(f"{path}: larger than {LARGEST // 10**6} MB; expected the structure of one peptide")
        content = content[:first_model]
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    if "\0" in text:
        raise InputError(f"{path}: not a text file; expected a PDB or mmCIF file")
    return text


def _of_pdb(text: str, source: str) -> StructureFile:
    atoms: list[AtomRecord] = []
    bridges: list[tuple[Place, Place]] = []
    seen: set[tuple[Place, str, str]] = set()
    ended = more = False
    for number, line in enumerate(text.splitlines(), start=1):
        record = line[:6].strip()
        if record == "ENDMDL" and atoms:
            break
        if record == "END":
            ended = bool(atoms)
        if record == "SSBOND" and (line[59:65].strip() or "1555") == (line[66:72].strip() or "1555"):
            bridges.append(tuple((line[c], line[c + 2 : c + 6], line[c + 6 : c + 7]) for c in (15, 29)))  # type: ignore[arg-type]
        if record not in ("ATOM", "HETATM"):
            continue
        try:
            place = (line[21].strip(), line[22:26].strip(), line[26].strip())
            position = np.array([float(line[c : c + 8]) for c in (30, 38, 46)]) / ANGSTROM_PER_NM
        except (ValueError, IndexError):
            raise InputError(f"{source}, line {number}: expected a PDB atom record, got '{line.strip()}'") from None
        name, location = line[12:16].strip(), line[16].strip()
        if ended and (place, name, location) in seen:
            more = True
            break
        seen.add((place, name, location))
        atom = AtomRecord(number, place, line[17:21].strip().upper(), name, location, _occupancy(line[54:60]), position)
        atoms.append(_finite(atom, line[30:54].strip(), source))
    strip = tuple((tuple(part.strip() for part in a), tuple(part.strip() for part in b)) for a, b in bridges)
    return StructureFile(tuple(atoms), strip, more)  # type: ignore[arg-type]


def _of_mmcif(text: str, source: str) -> StructureFile:
    rows = mmcif.category(text, "_atom_site", source)
    atoms: list[AtomRecord] = []
    model = rows[0].get("pdbx_PDB_model_num", "") if rows else ""
    for number, row in enumerate(rows, start=1):
        if row.get("pdbx_PDB_model_num", "") != model:
            break
        where = f"{source}, atom {number}"
        try:
            position = np.array([float(row[f"Cartn_{axis}"]) for axis in "xyz"]) / ANGSTROM_PER_NM
        except (KeyError, ValueError):
            raise InputError(f"{where}: expected the coordinates Cartn_x, Cartn_y, Cartn_z") from None
        atom = AtomRecord(
            number,
            (_either(row, "asym_id"), _either(row, "seq_id"), row.get("pdbx_PDB_ins_code", "")),
            _either(row, "comp_id").upper(),
            _either(row, "atom_id"),
            row.get("label_alt_id", ""),
            _occupancy(row.get("occupancy", "")),
            position,
        )
        atoms.append(_finite(atom, " ".join(row[f"Cartn_{axis}"] for axis in "xyz"), source))
    bridges = []
    for row in mmcif.category(text, "_struct_conn", source):
        same = row.get("ptnr1_symmetry", "") == row.get("ptnr2_symmetry", "")
        if row.get("conn_type_id", "").lower() == "disulf" and same:
            ends = [
                (
                    row.get(f"ptnr{k}_auth_asym_id") or row.get(f"ptnr{k}_label_asym_id", ""),
                    row.get(f"ptnr{k}_auth_seq_id") or row.get(f"ptnr{k}_label_seq_id", ""),
                    row.get(f"pdbx_ptnr{k}_PDB_ins_code", ""),
                )
                for k in (1, 2)
            ]
            bridges.append((ends[0], ends[1]))
    return StructureFile(tuple(atoms), tuple(bridges))


def _either(row: dict[str, str], what: str) -> str:
    """The author's name of something, which is what a PDB file has, else the dictionary's."""
    return row.get(f"auth_{what}") or row.get(f"label_{what}", "")


def _occupancy(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def _finite(atom: AtomRecord, numbers: str, source: str) -> AtomRecord:
    if not np.isfinite(atom.position).all():
        where = f"atom {atom.name} of {atom.code}{atom.place[1]}"
        raise InputError(f"{source}, line {atom.line}: {where} has no finite coordinates: {numbers}")
    return atom
