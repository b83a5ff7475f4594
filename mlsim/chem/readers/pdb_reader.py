"""Structure files (PDB, mmCIF): a peptide in any atom order and naming dialect, in template order.

Why not OpenMM's reader alone: it keeps the order of the file, and a model trained on one atom order would silently be
applied to another. Here residues stand in the order of the chain (:mod:`mlsim.chem.readers.residues`), atoms in that of
the template, under its names (:mod:`mlsim.chem.readers.atom_naming`). Missing hydrogens are added, the last oxygen of a
charged end too, and disulfide bonds within the chain are recognised by the distance of the sulfur atoms; nothing else
is guessed: missing heavy atoms, D-amino acids, chain breaks, rings, ligands and a second chain are refused by name.
Only the first model is read. Water and ions are left out with a warning, for solvent is added by the run that wants it.
A file of nothing but the points of a cluster is read as one (:mod:`mlsim.chem.cluster`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import app

from mlsim.chem.assembly import assemble
from mlsim.chem.readers import points
from mlsim.chem.readers.atom_naming import Atoms, disulfides, last_oxygen, named_atoms, sequence_of_file
from mlsim.chem.readers.atom_records import AtomRecord, read_atoms
from mlsim.chem.readers.residues import PEPTIDE_BOND_NM, Residue, end_of, peptide_residues
from mlsim.chem.sequence import Sequence
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, atom_names
from mlsim.errors import InputError


@dataclass(frozen=True)
class PdbContent:
    """What a file holds, in template order: name, topology, positions [N, 3] (nm), force field of its kind."""

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
        A PDB or mmCIF file (also ``.gz``) with one peptide chain, or with points only.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no structure of one complete peptide; the message names the residue.
    """
    path = Path(path)
    source, name = str(path), Path(path.name.removesuffix(".gz")).stem
    found = read_atoms(path)
    if all(atom.code == points.RESIDUE for atom in found.atoms):
        positions = np.array([atom.position for atom in found.atoms])
        order = _file_order(positions, found.atoms)
        return PdbContent(name, points.topology_of(len(positions)), positions, (points.FORCE_FIELD,), False, order)
    residues, dropped = peptide_residues(found.atoms, source)
    sequence = sequence_of_file(residues, disulfides(residues, found.bridges, source), source)
    _refuse_breaks(residues, source)
    coordinates = [named_atoms(residue, sequence, k, source) for k, residue in enumerate(residues)]
    left_out = [dropped] * bool(dropped) + ["further frames"] * found.has_more_frames
    if left_out:
        warnings.warn(f"{path}: {' and '.join(left_out)} left out (solvent is added by the run)", stacklevel=3)
    if "OXT" in atom_names(sequence, len(sequence) - 1) and "OXT" not in coordinates[-1]:
        coordinates[-1]["OXT"] = last_oxygen(coordinates[-1])
        warnings.warn(f"{path}: the last oxygen (OXT) of {residues[-1].label} was added", stacklevel=3)
    return _assembled(name, sequence, coordinates, found.atoms, source)


def _assembled(
    name: str, sequence: Sequence, coordinates: list[Atoms], atoms: ListOf[AtomRecord], source: str
) -> PdbContent:
    try:
        topology, positions = assemble(name, sequence, coordinates)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return PdbContent(name, topology, positions, (PROTEIN_FORCE_FIELD,), True, _file_order(positions, atoms))


def _file_order(positions: NDArray[np.float64], atoms: ListOf[AtomRecord]) -> NDArray[np.int64]:
    """Index in the file of every atom; -1 where none is at its place. What was in the file is kept exactly."""
    places: dict[tuple[float, ...], int] = {}
    for number, atom in enumerate(atoms):
        places.setdefault(tuple(atom.position), number)
    return np.array([places.get(tuple(x), -1) for x in positions], dtype=np.int64)


def _refuse_breaks(residues: ListOf[Residue], source: str) -> None:
    """Refuse a chain that is broken, or closed to a ring."""
    starts, ends = [end_of(r, "N") for r in residues], [end_of(r, "C") for r in residues]
    for k in range(len(residues) - 1):
        before, after = ends[k], starts[k + 1]
        gap = 0.0 if before is None or after is None else float(np.linalg.norm(before - after))
        if gap > PEPTIDE_BOND_NM:
            raise InputError(
                f"{source}: the chain is broken between {residues[k].label} and {residues[k + 1].label} "
                f"(C-N {gap:.2f} nm); expected one unbroken peptide"
            )
    first, last = starts[0], ends[-1]
    if len(residues) > 2 and first is not None and last is not None and np.linalg.norm(first - last) < PEPTIDE_BOND_NM:
        raise InputError(
            f"{source}: a cyclic peptide ({residues[-1].label} is bonded to {residues[0].label}), which is not "
            "supported; expected a chain with two ends"
        )
