"""Peptides as lines of a PDB file, and edits of their columns, for the tests of the readers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build

_COLUMNS = {
    "name": (12, 16), "altloc": (16, 17), "residue": (17, 20), "code": (17, 21), "chain": (21, 22), "number": (22, 26),
    "insertion": (26, 27), "x": (30, 38), "y": (38, 46), "z": (46, 54), "occupancy": (54, 60),
}  # fmt: skip


@cache
def peptide(sequence: str) -> Molecule:
    """The molecule of a sequence, built once."""
    return build(sequence)


def lines_of(sequence: str, folder: Path) -> list[str]:
    """ATOM records of a built peptide."""
    path = folder / "source.pdb"
    peptide(sequence).to_pdb(path)
    return [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]


def read(lines: list[str], folder: Path) -> Molecule:
    """What the package reads from these lines."""
    path = folder / "copy.pdb"
    path.write_text("\n".join(lines) + "\nEND\n")
    return Molecule.from_pdb(path)


def edit(line: str, **fields: str) -> str:
    """Replace columns of an ATOM record."""
    for key, value in fields.items():
        start, end = _COLUMNS[key]
        line = line[:start] + f"{value:>{end - start}}"[: end - start] + line[end:]
    return line


def name_of(line: str) -> str:
    """Atom name of a record."""
    return line[12:16].strip()


def residue_number(line: str) -> int:
    """Residue number of a record."""
    return int(line[22:26])


def is_hydrogen(line: str) -> bool:
    """Whether the record is one of a hydrogen, by its element."""
    return line[76:78].strip() == "H"


def moved(line: str, shift: float) -> str:
    """The record with every coordinate shifted, in angstrom."""
    x, y, z = (float(line[c : c + 8]) + shift for c in (30, 38, 46))
    return edit(line, x=f"{x:.3f}", y=f"{y:.3f}", z=f"{z:.3f}")
