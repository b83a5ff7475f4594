"""Checks must find what is wrong, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mlsim.chem import checks
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import Torsions, build
from mlsim.errors import InputError


@cache
def _peptide(sequence: str) -> Molecule:
    return build(sequence)


def _failed(molecule: Molecule) -> list[str]:
    return [c.name for c in checks.check(molecule).checks if not c.passed]


@pytest.mark.parametrize("sequence", ["ACE-ALA-NME", "ACE-ILE-NME", "ACE-THR-NME", "ACE-PRO-NME"])
def test_the_mirror_image_is_found_to_be_the_d_form(sequence: str) -> None:
    molecule = _peptide(sequence)
    mirrored = molecule.with_positions(molecule.positions * np.array([1.0, 1.0, -1.0]))
    assert _failed(mirrored) == ["chirality"]
    assert all(volume < 0 for _, _, volume in checks.chirality(mirrored))


def test_glycine_has_no_hand_and_its_mirror_image_passes() -> None:
    molecule = _peptide("ACE-GLY-NME")
    assert _failed(molecule.with_positions(-molecule.positions)) == []


@pytest.mark.parametrize(
    ("sequence", "first", "second"), [("ACE-THR-NME", "OG1", "CG2"), ("ACE-ILE-NME", "CG1", "CG2")]
)
def test_an_inverted_side_chain_centre_is_found(sequence: str, first: str, second: str) -> None:
    molecule = _peptide(sequence)
    i, j = (molecule.atom_names.index(n) for n in (first, second))
    swapped = molecule.positions.copy()
    swapped[[i, j]] = swapped[[j, i]]
    report = checks.check(molecule.with_positions(swapped))
    chirality = next(c for c in report.checks if c.name == "chirality")
    assert not chirality.passed
    assert "at CB" in chirality.detail


def test_valine_needs_no_hand_at_cb() -> None:
    assert [centre for _, centre, _ in checks.chirality(_peptide("ACE-VAL-NME"))] == ["CA"]


def test_volumes_of_natural_centres_have_the_documented_size() -> None:
    for sequence in ("ACE-ALA-NME", "ACE-ILE-NME", "ACE-THR-NME"):
        for _, _, volume in checks.chirality(_peptide(sequence)):
            assert 2.0e-3 < volume < 3.5e-3


def test_a_cis_peptide_bond_is_refused_before_alanine_and_accepted_before_proline() -> None:
    with pytest.raises(InputError, match="not trans"):
        build("ACE-AA-NME", torsions=[Torsions(), Torsions(), Torsions(omega=0.0), Torsions()])
    bent = build("ACE-AP-NME", torsions=[Torsions(), Torsions(phi=-75.0), Torsions(phi=-75.0, omega=0.0), Torsions()])
    omega = {after: angle for _, after, angle in checks.omegas(bent)}
    assert abs(omega["PRO3"]) < 30.0
    assert "cis: ALA2-PRO3" in "".join(checks.check(bent).lines())


def test_built_peptides_are_trans_before_proline_too() -> None:
    assert all(abs(angle) > 150.0 for _, _, angle in checks.omegas(_peptide("ACE-PRO-NME")))


def test_a_collision_is_found_and_named() -> None:
    molecule = _peptide("ACE-ALA-NME")
    positions = molecule.positions.copy()
    positions[18] = positions[0] + 0.01  # N-methyl carbon onto an acetyl hydrogen
    report = checks.check(molecule.with_positions(positions))
    assert not report.passed
    with pytest.raises(InputError, match="NME3"):
        report.require("file.pdb")


def test_contacts_leave_out_bonds_and_angles() -> None:
    i, j, distance = checks.closest_contact(_peptide("ACE-ALA-NME"))
    assert distance > 0.26
    assert abs(i - j) > 1


def test_a_long_bond_is_found() -> None:
    molecule = _peptide("ACE-ALA-NME")
    positions = molecule.positions.copy()
    positions[16:] += np.array([0.5, 0.0, 0.0])
    assert "bond lengths" in _failed(molecule.with_positions(positions))


def test_coordinates_that_are_no_numbers_are_found() -> None:
    molecule = _peptide("ACE-ALA-NME")
    positions = molecule.positions.copy()
    positions[3, 1] = np.nan
    assert _failed(replace(molecule, positions=positions)) == ["finite coordinates"]
