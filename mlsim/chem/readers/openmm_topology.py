"""A molecule from an OpenMM Topology that somebody else made, whatever its atom names and their order.

    residues -> templates of the force field (by bonds, not by names) -> states -> molecule in template order

Why not by names: a ``prmtop`` calls the hydrogens of a cap otherwise than a PDB file, and ``HIE`` is ``HIS`` in one of
them; the bonds are the same everywhere, and OpenMM itself goes by them in ``createSystem``.

A Topology has no positions: the molecule's are NaN until :meth:`mlsim.chem.molecule.Molecule.with_positions`. Its
``file_order`` says which atom of the Topology every atom is.
"""

from __future__ import annotations

import numpy as np
from openmm import app

from mlsim.chem.assembly import ordered
from mlsim.chem.kinds import pieces
from mlsim.chem.molecule import Molecule
from mlsim.chem.sequence import C_CAPS, N_CAP, from_states
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, atom_names, is_ion, is_water
from mlsim.errors import InputError


def molecule_of(topology: app.Topology, source: str = "topology") -> Molecule:
    """The one peptide that a Topology is, in template order.

    Parameters
    ----------
    topology : openmm.app.Topology
        With all bonds and hydrogens, without water.
    source : str
        What it is called in messages.

    Returns
    -------
    Molecule
        Positions are NaN; ``molecule.take(positions)`` brings those of the Topology's order into the molecule's.

    Raises
    ------
    InputError
        If there is water, an ion or a second molecule, or ff14SB has no template for a residue.
    """
    _require_one_molecule(topology, source)
    forcefield = app.ForceField(PROTEIN_FORCE_FIELD)
    data = forcefield._SystemData(topology)
    try:
        templates = forcefield._matchAllResiduesToTemplates(data, topology, {}, False)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: not a peptide of the force field {PROTEIN_FORCE_FIELD}: {reason}") from None
    residues = list(topology.residues())
    names = [templates[residue].name for residue in residues]
    if names[0] != N_CAP:
        names[0] = names[0].removeprefix("N")
    if names[-1] not in C_CAPS:
        names[-1] = names[-1].removeprefix("C")
    place = {residue: k for k, residue in enumerate(residues)}
    bridges = sorted(
        (min(pair), max(pair))
        for a, b in topology.bonds()
        if a.element.symbol == b.element.symbol == "S" and (pair := (place[a.residue], place[b.residue]))
    )
    sequence = from_states(names, source, tuple(bridges))
    order: list[int] = []
    for residue in residues:
        order += [a.index for a in sorted(residue.atoms(), key=lambda atom: data.atomTemplateIndexes[atom])]
    nowhere = np.full(3, np.nan)
    unplaced = [dict.fromkeys(atom_names(sequence, k), nowhere) for k in range(len(sequence))]
    made, positions = ordered(sequence, unplaced)
    if made.getNumAtoms() != len(order) or _bonds(made) != _bonds(topology, np.argsort(order)):
        raise InputError(
            f"{source}: residues are not bonded in the order in which they stand; write them along the chain"
        )
    every = np.arange(len(order))
    return Molecule(sequence.text, made, positions, every, file_order=np.array(order, dtype=np.int64))


def _bonds(topology: app.Topology, places: np.ndarray | None = None) -> set[tuple[int, int]]:
    pairs = [(a.index, b.index) for a, b in topology.bonds()]
    named = pairs if places is None else [(int(places[i]), int(places[j])) for i, j in pairs]
    return {(min(pair), max(pair)) for pair in named}


def _require_one_molecule(topology: app.Topology, source: str) -> None:
    residues = list(topology.residues())
    waters = sum(is_water(residue.name) for residue in residues)
    if waters:
        raise InputError(
            f"{source}: {waters} water molecules in it, which a solvent without water replaces; delete them first "
            "(Modeller.deleteWater)"
        )
    ions = [r.name for r in residues if is_ion(r.name) and len(list(r.atoms())) == 1]
    if ions:
        raise InputError(f"{source}: ions in it ({' '.join(sorted(set(ions)))}); delete them first")
    if not residues:
        raise InputError(f"{source}: no atoms in it; expected one peptide")
    strange = next((a for a in topology.atoms() if a.element is None), None)
    if strange is not None:
        raise InputError(f"{source}: atom {strange.name} has no element (an extra particle); expected atoms only")
    number = pieces(topology.getNumAtoms(), [(a.index, b.index) for a, b in topology.bonds()])
    if number > 1:
        raise InputError(
            f"{source}: {number} separate molecules; expected one peptide (are all bonds in the topology?)"
        )
