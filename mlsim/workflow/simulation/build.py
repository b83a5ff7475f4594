"""Build a peptide from its sequence, or from a file of one, and write it as a system of the user's own.

"ACE-ALA-NME" or a PDB or mmCIF file -> Molecule, checked -> DIR/structure.pdb, DIR/system.yaml
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlsim.chem import catalog, checks, peptide
from mlsim.chem.checks import Report
from mlsim.chem.molecule import Molecule
from mlsim.chem.readers.atom_records import is_structure_file
from mlsim.chem.readers.system_directory import SystemEntry, SystemRecord, write_system
from mlsim.chem.sequence import parse
from mlsim.chem.templates import sequence_of
from mlsim.files import require_free


@dataclass(frozen=True, eq=False)
class Built:
    """A peptide that is ready to be simulated.

    Attributes
    ----------
    molecule : Molecule
    record : SystemRecord
        What ``system.yaml`` says.
    report : Report
        Whether a run may start from it.
    directory : Path
    """

    molecule: Molecule
    record: SystemRecord
    report: Report
    directory: Path


def build(source: str | Path, directory: str | Path) -> Built:
    """Build a peptide (ff14SB, pH 7), check it and write it to a new directory.

    Parameters
    ----------
    source : str or Path
        Sequence such as ``ACE-ALA-NME`` or ``YYDPETGTWY``, or a PDB or mmCIF file of one peptide.
    directory : str or Path
        New directory for ``structure.pdb`` (coordinates) and ``system.yaml``.

    Returns
    -------
    Built
        The molecule (positions in nm, charges in e), its record and the report of the checks.

    Raises
    ------
    OccupiedError
        If the directory exists.
    InputError, MissingError, UnphysicalError
        If the sequence or the file cannot be read, or no run could start from it.
    """
    source, directory = str(source), Path(directory)
    require_free(directory)
    catalog.refuse_other_files(source)
    if is_structure_file(source):
        molecule = catalog.read_structure(source)
        sequence = sequence_of(molecule.topology)
        origin = f"read from {Path(source).name}; missing hydrogens added at pH 7, not minimised"
    else:
        sequence = parse(source)
        molecule = peptide.build(source)
        origin = "built from the sequence as an extended chain and minimised; not an experimental structure"
    report = checks.check(molecule)
    record = SystemRecord(
        name=directory.resolve().name,
        sequence=sequence.text,
        description=f"{sequence.text}, {molecule.n_atoms} atoms",
        origin=origin,
        default_forcefield=catalog.forcefield_for(sequence),
    )
    write_system(molecule, record, directory)
    return Built(molecule, record, report, directory)


def systems() -> tuple[SystemEntry, ...]:
    """Systems that can be given by name."""
    return catalog.systems()
