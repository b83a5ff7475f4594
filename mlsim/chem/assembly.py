"""Assembly: coordinates of named atoms, residue by residue, become a complete Molecule.

Heavy atoms must be there; hydrogens that are missing are placed by OpenMM's Modeller (pH 7 states as the sequence
spells them, ff14SB, everything else held). Modeller draws its first guess from Python's global generator; it gets a
fixed state for the call and its own back afterwards, so that the same input gives the same molecule, bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as ListOf
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from openmm import Platform, app, unit

from mlsim.chem.sequence import VARIANTS, Sequence
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, atom_names, is_hydrogen, parent_names
from mlsim.errors import InputError

#: Positions of the named atoms of one residue, nm.
Coordinates = Mapping[str, NDArray[np.float64]]


def assemble(name: str, sequence: Sequence, residues: ListOf[Coordinates]) -> tuple[app.Topology, NDArray[np.float64]]:
    """Put atoms into template order, adding hydrogens that are missing.

    Parameters
    ----------
    name : str
        Name of the molecule, for messages.
    sequence : Sequence
        One state per residue.
    residues : list of mapping from atom name to float64 [3], nm
        All heavy atoms, and any of the hydrogens, under OpenMM's names.

    Returns
    -------
    openmm.app.Topology
    float64 [N, 3], nm

    Raises
    ------
    InputError
        If heavy atoms are missing; the residue and the atoms are named.
    """
    for k, atoms in enumerate(residues):
        lacking = [a for a in atom_names(sequence, k) if not is_hydrogen(a) and a not in atoms]
        if lacking:
            raise InputError(
                f"{name}: residue {sequence.residues[k]}{k + 1} lacks heavy atoms {', '.join(lacking)}; "
                "complete the structure (for example with PDBFixer) and read it again"
            )
    if any(a not in atoms for k, atoms in enumerate(residues) for a in atom_names(sequence, k)):
        residues = _with_hydrogens(sequence, residues)
    return ordered(sequence, residues)


def ordered(sequence: Sequence, residues: ListOf[Coordinates]) -> tuple[app.Topology, NDArray[np.float64]]:
    """Topology and positions [N, 3] (nm) of the atoms that are there, in template order."""
    topology = app.Topology()
    chain = topology.addChain("A")
    positions = []
    for k, atoms in enumerate(residues):
        residue = topology.addResidue(sequence.residues[k], chain, str(k + 1))
        for atom in atom_names(sequence, k):
            if atom in atoms:
                topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
                positions.append(np.asarray(atoms[atom], dtype=np.float64))
    topology.createStandardBonds()
    sulfur = {a.residue.index: a for a in topology.atoms() if a.name == "SG"}
    for i, j in sequence.bridges:
        topology.addBond(sulfur[i], sulfur[j])
    return topology, np.array(positions)


def _with_hydrogens(sequence: Sequence, residues: ListOf[Coordinates]) -> list[dict[str, NDArray[np.float64]]]:
    topology, positions = ordered(sequence, residues)
    modeller = app.Modeller(topology, positions * unit.nanometer)
    with _fixed_global_random():
        modeller.addHydrogens(
            app.ForceField(PROTEIN_FORCE_FIELD),
            pH=7.0,
            variants=[s if s in VARIANTS else None for s in sequence.states],
            platform=Platform.getPlatformByName("Reference"),
        )
    xyz = np.array(modeller.positions.value_in_unit(unit.nanometer))
    complete = [{a.name: xyz[a.index] for a in r.atoms()} for r in modeller.topology.residues()]
    for k, atoms in enumerate(complete):
        expected = set(atom_names(sequence, k))
        _rename_hydrogens(atoms, expected, parent_names(sequence.residues[k]))
        if set(atoms) != expected:
            raise InputError(
                f"residue {sequence.residues[k]}{k + 1}: expected atoms {' '.join(sorted(expected))}, "
                f"got {' '.join(sorted(atoms))}"
            )
        for atom, known in residues[k].items():
            atoms[atom] = np.asarray(known, dtype=np.float64)  # exactly what came in
    return complete


def _rename_hydrogens(atoms: dict[str, NDArray[np.float64]], expected: set[str], parents: dict[str, str]) -> None:
    """Give hydrogens that the template calls otherwise its names: those on the same heavy atom are alike.

    Of a neutral lysine Modeller keeps HZ1 and HZ2, ff14SB has HZ2 and HZ3.
    """
    for wrong in sorted(set(atoms) - expected):
        parent = parents.get(wrong)
        free = sorted(name for name in expected - set(atoms) if parent is not None and parents.get(name) == parent)
        if free:
            atoms[free[0]] = atoms.pop(wrong)


@contextmanager
def _fixed_global_random() -> Iterator[None]:
    """Run a library call that uses Python's global generator, without leaving a trace in it."""
    before = random.getstate()
    random.seed(20210601)
    try:
        yield
    finally:
        random.setstate(before)
