"""Catalog: finds systems and force fields by name. The only file that knows ``systems/`` and ``forcefields/``.

Looked for, in this order: the directories in the environment variable ``MLSIM_PATH`` (separated like ``PATH``), the
current directory, and what ships with the package (beside it in a checkout, inside it in an installed wheel). Each
place may hold ``systems/<name>/system.yaml`` and ``forcefields/<name>/card.yaml``; a path to such a directory works
wherever a name does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mlsim.chem import checks, cluster
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.chem.readers.atom_records import MMCIF_ENDINGS, PDB_ENDINGS, is_structure_file
from mlsim.chem.readers.system_directory import SYSTEM_FILE, SystemEntry, read_system
from mlsim.chem.sequence import C_CAPS, N_CAP, ONE_TO_THREE, VARIANTS, Sequence, parse
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, sequence_of
from mlsim.errors import InputError, MissingError
from mlsim.names import suggestion

#: How alike a name must be to be suggested, 0 to 1.
_ALIKE = 0.5
#: Environment variable with further directories.
PATH_VARIABLE = "MLSIM_PATH"
#: Files that make a directory a force field.
FORCE_FIELD_FILES = ("card.yaml", "config.yaml")
#: The shipped force field that serves any peptide.
TRANSFERABLE = "issnet-peptides"
#: Files that are often given for a structure, and what they are.
_OTHER_FILES = {
    ".gro": "a structure of GROMACS", ".mol2": "a MOL2 file", ".sdf": "an SDF file", ".xyz": "an XYZ file",
    ".fasta": "a FASTA file", ".bcif": "a binary CIF file", ".pqr": "a PQR file", ".pdbqt": "a PDBQT file",
    ".psf": "a topology without positions", ".prmtop": "a topology without positions",
    ".parm7": "a topology without positions", ".top": "a topology without positions", ".xtc": "a trajectory",
    ".dcd": "a trajectory", ".trr": "a trajectory", ".h5": "an HDF5 file", ".xml": "an XML file",
}  # fmt: skip


# ---- systems ----


def systems() -> tuple[SystemEntry, ...]:
    """Every system in sight; of several with one name, the first found."""
    found: dict[str, SystemEntry] = {}
    for root in _roots("systems"):
        for path in sorted(root.glob(f"*/{SYSTEM_FILE}")):
            found.setdefault(path.parent.name, read_system(path.parent))
    return tuple(found[name] for name in sorted(found))


def find_system(name: str | Path) -> SystemEntry:
    """The system called ``name``, or in the directory ``name``.

    Raises
    ------
    MissingError
        With a suggestion, if there is none.
    """
    if os.path.isfile(Path(name) / SYSTEM_FILE):  # which also answers for names that no file can have
        return read_system(name)
    for root in _roots("systems"):
        if _is_plain(str(name)) and os.path.isfile(root / name / SYSTEM_FILE):
            return read_system(root / name)
    known = [entry.directory.name for entry in systems()]
    raise MissingError(f"no system '{name}'; {_suggest(str(name), known)}")


def absolute_system(text: str, base: Path) -> str:
    """``text`` as :func:`load_system` takes it from any directory: a path to something is made absolute.

    Parameters
    ----------
    base : Path
        Directory that a relative path starts from: where it was typed, or that of the file that it stands in.
    """
    path = base / text
    if is_structure_file(text) or os.path.isfile(path / SYSTEM_FILE) or (not _is_plain(text) and os.path.exists(path)):
        return str(path.resolve())
    return text


def load_system(text: str | Path) -> Molecule:
    """Molecule for whatever a user calls a system: a name, a directory, a structure file, a sequence, or a cluster.

    Raises
    ------
    MissingError
        If it is none of these; with a suggestion.
    InputError
        If the structure or the sequence cannot be used.
    """
    given = str(text)
    if is_structure_file(given):
        return read_structure(given)
    try:
        entry = find_system(given)
    except MissingError:
        points = cluster.named(given)
        if points is not None:
            return points
        refuse_other_files(given)
        if not _reads_as_sequence(given):
            raise
        return build(given)
    return _checked(entry.load(), str(entry.directory / entry.record.structure))


def read_structure(path: str | Path) -> Molecule:
    """A peptide or a cluster from a structure file that a simulation may start from.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it cannot be read, or fails one of :mod:`mlsim.chem.checks`; the message names the residue.
    """
    return _checked(Molecule.from_pdb(path), str(path))


def _checked(molecule: Molecule, source: str) -> Molecule:
    if PROTEIN_FORCE_FIELD in molecule.force_field:
        checks.check(molecule).require(source)
    return molecule


def refuse_other_files(text: str) -> None:
    """Refuse a path that is neither a structure file nor a system directory; a sequence or a name passes.

    Raises
    ------
    MissingError
        If there is nothing at the path, or a directory without a system.
    InputError
        If there is a file of another kind.
    """
    is_path = "." in text or "/" in text or os.sep in text
    if is_structure_file(text) or (not is_path and (_reads_as_sequence(text) or not os.path.exists(text))):
        return
    expected = f"expected a structure file ({' '.join((*PDB_ENDINGS, *MMCIF_ENDINGS))}, each also .gz)"
    if os.path.isdir(text):
        raise MissingError(f"{text}: a directory without {SYSTEM_FILE}; {expected}, or make one with: mlsim build")
    if not os.path.exists(text):
        raise MissingError(f"{text}: no such file or directory; {expected}, or a sequence such as ACE-ALA-NME")
    kind = _OTHER_FILES.get(Path(text.lower().removesuffix(".gz")).suffix, "a file of another kind")
    raise InputError(f"{text}: {kind}, which is not read as a structure; {expected}")


# ---- force fields ----


def forcefields() -> tuple[str, ...]:
    """Names of the force fields in sight."""
    found = {p.parent.name for root in _roots("forcefields") for p in root.glob(f"*/{FORCE_FIELD_FILES[0]}")}
    return tuple(sorted(found))


def forcefield_directory(name: str | Path) -> Path:
    """Directory of a force field, by name or path.

    Raises
    ------
    MissingError
        With a suggestion, if there is none.
    """
    candidates = [Path(name)]
    if _is_plain(str(name)):
        candidates += [root / name for root in _roots("forcefields")]
    for directory in candidates:
        if any(os.path.isfile(directory / file) for file in FORCE_FIELD_FILES):
            return directory
    raise MissingError(f"no force field '{name}'; {_suggest(str(name), list(forcefields()))}")


def default_forcefield(system: str | Path) -> str:
    """Name of the learned force field that ``issnet`` means for a system (name, directory or sequence).

    A directory or sequence without one of its own gets that of a known system with the same sequence, else the one
    that serves any peptide.

    Raises
    ------
    MissingError
        If there is none.
    """
    sequence: Sequence | None = None
    try:
        record = find_system(system).record
        if record.default_forcefield is not None:
            return record.default_forcefield
        sequence = parse(record.sequence)
    except MissingError:
        if is_structure_file(system):
            sequence = sequence_of(Molecule.from_pdb(system).topology)
        elif _reads_as_sequence(str(system)):
            sequence = parse(str(system))
        else:
            raise
    shared = forcefield_for(sequence) or transferable_forcefield()
    if shared is None:
        known = ", ".join(forcefields()) or "none"
        raise MissingError(f"no default learned force field for '{system}'; name one as issnet:NAME (known: {known})")
    return shared


def transferable_forcefield() -> str | None:
    """Name of the shipped force field for peptides without one of their own, if it is in sight."""
    return TRANSFERABLE if TRANSFERABLE in forcefields() else None


def forcefield_for(sequence: Sequence) -> str | None:
    """Default force field of the first known system with this sequence, if any."""
    for entry in systems():
        if entry.record.default_forcefield is not None and parse(entry.record.sequence) == sequence:
            return entry.record.default_forcefield
    return None


# ---- places ----


def shipped() -> Path:
    """Directory with the shipped ``systems`` and ``forcefields``."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "shipped"
    return inside if inside.is_dir() else package.parent


def _roots(kind: str) -> Iterator[Path]:
    """Existing directories that hold entries of a kind (``systems`` or ``forcefields``)."""
    given = [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    for root in (*given, Path.cwd(), shipped()):
        if (root / kind).is_dir():
            yield root / kind
    yield from (p for p in given if p.is_dir())


def _is_plain(name: str) -> bool:
    return bool(name) and Path(name).name == name and name not in (".", "..")


def _reads_as_sequence(text: str) -> bool:
    """Whether an unknown name should be treated (and refused) as a sequence: capitals, or a residue code in it."""
    codes = {*ONE_TO_THREE.values(), *VARIANTS, N_CAP, *C_CAPS}
    tokens = text.replace("-", " ").split()
    return _is_plain(text) and (text == text.upper() or any(t.upper() in codes for t in tokens))


def _suggest(name: str, known: list[str]) -> str:
    return suggestion(name, known, _ALIKE) or f"known: {', '.join(known) or 'none'}"
