"""Chemical kinds: a description of atoms by the graph of bonds alone."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.chem.kinds import chemical_kinds, pieces
from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError

#: Formate and formic acid: H, C, O, O (and H).
FORMATE = ("H", "C", "O", "O"), [(0, 1), (1, 2), (1, 3)]
FORMIC_ACID = ("H", "C", "O", "O", "H"), [(0, 1), (1, 2), (1, 3), (3, 4)]


def test_kinds_name_the_atom_its_neighbours_and_theirs() -> None:
    assert chemical_kinds(*FORMATE) == ("H1(C3(O1 O1))", "C3(H1 O1 O1)", "O1(C3(H1 O1))", "O1(C3(H1 O1))")


def test_protonation_changes_the_kind_of_the_oxygen_that_keeps_no_hydrogen() -> None:
    assert chemical_kinds(*FORMATE)[2] == "O1(C3(H1 O1))"
    assert chemical_kinds(*FORMIC_ACID)[2] == "O1(C3(H1 O2))"


def test_kinds_do_not_depend_on_the_order_of_atoms_or_bonds(ala2: Molecule) -> None:
    order = np.random.default_rng(1).permutation(ala2.n_atoms)
    place = np.argsort(order)
    kinds = chemical_kinds(ala2.elements, ala2.bonds.tolist())
    mixed = chemical_kinds([ala2.elements[k] for k in order], place[ala2.bonds][::-1, ::-1].tolist())
    assert mixed == tuple(kinds[k] for k in order)


def test_alanine_dipeptide_has_one_kind_per_surrounding(ala2: Molecule) -> None:
    kinds = dict(zip(zip(ala2.residue_names, ala2.atom_names, strict=True), _kinds(ala2), strict=True))
    assert kinds["ACE", "O"] == kinds["ALA", "O"] == "O1(C3(C4 N3))"
    assert kinds["ALA", "HB1"] == kinds["ALA", "HB2"] == "H1(C4(C4 H1 H1))"
    assert kinds["ACE", "C"] != kinds["ALA", "C"]
    assert len(set(_kinds(ala2))) == 14


def test_pieces_are_counted() -> None:
    assert pieces(4, FORMATE[1]) == 1
    assert pieces(5, FORMATE[1]) == 2
    assert pieces(3, []) == 3


@pytest.mark.parametrize("bond", [(0, 4), (-1, 2), (1, 1)])
def test_a_bond_to_no_other_atom_is_refused(bond: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="expected two different atoms of 0 to 3"):
        chemical_kinds(FORMATE[0], [bond])


def _kinds(molecule: Molecule) -> tuple[str, ...]:
    return chemical_kinds(molecule.elements, molecule.bonds.tolist())
