"""System directory: one simulation-ready molecule on disk, ``system.yaml`` beside ``structure.pdb``.

The shipped systems and what ``mlsim build`` writes are the same thing; either is read back here, and checked against
the sequence that its record names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import Torsions, build
from mlsim.chem.sequence import parse
from mlsim.chem.templates import sequence_of
from mlsim.errors import InputError
from mlsim.files import new_directory
from mlsim.settings import Settings

#: File that makes a directory a system.
SYSTEM_FILE = "system.yaml"
STRUCTURE_FILE = "structure.pdb"


class SystemRecord(Settings):
    """Contents of ``system.yaml``.

    Attributes
    ----------
    name, description : str
    sequence : str
        As :func:`mlsim.chem.sequence.parse` reads it.
    force_field, water : str
        Amber names, for the reader; the package has one of each.
    temperature_K : float
        Temperature of a run that names none, K.
    structure : str
        PDB file in the same directory.
    origin : str
        Where the structure comes from.
    default_forcefield : str or None
        What the solvent ``issnet`` means for this system.
    reference_surfaces : tuple of str
        Files with free-energy surfaces, relative to the directory.
    torsions : tuple of Torsions or None
        The torsions the structure was built from, where it is not an extended chain.
    """

    name: str
    sequence: str
    description: str = ""
    force_field: str = "ff14SB"
    water: str = "TIP3P"
    temperature_K: float = 300.0
    structure: str = STRUCTURE_FILE
    origin: str = ""
    default_forcefield: str | None = None
    reference_surfaces: tuple[str, ...] = ()
    torsions: tuple[Torsions, ...] | None = None


@dataclass(frozen=True)
class SystemEntry:
    """A system that was found: its record and where it lies."""

    record: SystemRecord
    directory: Path

    @property
    def reference_surfaces(self) -> tuple[Path, ...]:
        """Paths of the reference surfaces."""
        return tuple(self.directory / name for name in self.record.reference_surfaces)

    def load(self) -> Molecule:
        """Read the structure.

        Raises
        ------
        MissingError, InputError
            If the structure is missing, unreadable, or not the sequence that the record names.
        """
        path = self.directory / self.record.structure
        molecule = Molecule.from_pdb(path)
        expected, got = parse(self.record.sequence), sequence_of(molecule.topology)
        if got != expected:
            raise InputError(f"{path}: expected {expected.text} as in {SYSTEM_FILE}, got {got.text}")
        return replace(molecule, name=self.record.name)

    def rebuild(self) -> Molecule:
        """Build the structure anew from sequence and torsions, as it was when the directory was made."""
        return build(self.record.sequence, self.record.name, self.record.torsions)


def read_system(directory: str | Path) -> SystemEntry:
    """Read ``system.yaml`` of a directory.

    Raises
    ------
    MissingError
        If there is none.
    SettingsError
        On an unknown key or a bad value.
    """
    directory = Path(directory)
    return SystemEntry(SystemRecord.from_yaml(directory / SYSTEM_FILE), directory)


def write_system(molecule: Molecule, record: SystemRecord, directory: str | Path) -> SystemEntry:
    """Write ``structure.pdb`` and ``system.yaml``; all of it or nothing.

    Raises
    ------
    OccupiedError
        If the directory is there and not empty, or a file is in its place.
    StorageError
        If the file system refuses.
    """
    directory = Path(directory)
    with new_directory(directory) as fresh:
        molecule.to_pdb(fresh / record.structure)
        (fresh / SYSTEM_FILE).write_text(record.to_yaml())
    return read_system(directory)
