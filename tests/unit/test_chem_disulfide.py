"""Disulfide bonds within a chain, and the amide cap: built, written, read, and parametrised as OpenMM does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openmm import Context, Platform, VerletIntegrator, app, unit

from mlsim.chem import checks
from mlsim.chem.molecule import Molecule
from mlsim.chem.sequence import parse
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, sequence_of
from mlsim.errors import InputError
from tests.unit.pdb_lines import edit, lines_of, moved, name_of, peptide, read, residue_number

RING = "ACE-CYX-GLY-GLY-CYX-NME"
TWO = "ACE-CYX1-GLY-CYX2-ALA-ALA-CYX1-GLY-CYX2-NHE"


def _sulfur_bonds(molecule: Molecule) -> set[tuple[int, int]]:
    atoms = list(molecule.topology.atoms())
    return {
        (atoms[i].residue.index, atoms[j].residue.index)
        for i, j in molecule.bonds.tolist()
        if atoms[i].name == atoms[j].name == "SG"
    }


@pytest.mark.parametrize(("sequence", "bonds"), [(RING, {(1, 4)}), (TWO, {(1, 6), (3, 8)})])
def test_a_peptide_with_disulfide_bonds_is_built_and_read_back(
    sequence: str, bonds: set[tuple[int, int]], tmp_path: Path
) -> None:
    molecule = peptide(sequence)
    assert checks.check(molecule).passed
    assert _sulfur_bonds(molecule) == bonds
    again = read(lines_of(sequence, tmp_path), tmp_path)
    assert again.digest == molecule.digest
    assert sequence_of(again.topology) == parse(sequence)
    assert parse(sequence_of(again.topology).text) == parse(sequence)


def test_the_energy_is_that_of_a_topology_which_openmm_read_by_itself(tmp_path: Path) -> None:
    molecule = peptide(TWO)
    molecule.to_pdb(tmp_path / "two.pdb")
    other = app.PDBFile(str(tmp_path / "two.pdb"))  # its own search for disulfide bonds
    systems = (
        molecule.system_template(app.NoCutoff),
        app.ForceField(PROTEIN_FORCE_FIELD).createSystem(other.topology, constraints=None, removeCMMotion=False),
    )
    energies = []
    for system in systems:
        context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
        context.setPositions(molecule.positions)  # the file keeps the order of the molecule
        energies.append(context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
    assert energies[0] == pytest.approx(energies[1], rel=1e-9)


def test_plain_cysteines_in_a_file_are_bonded_where_their_sulfurs_are_near(tmp_path: Path) -> None:
    lines = lines_of(RING, tmp_path)
    for code in ("CYS", "CYX"):
        renamed = [edit(x, residue=code) if x[17:20] == "CYS" else x for x in lines]
        assert read(renamed, tmp_path).digest == peptide(RING).digest


def test_a_disulfide_bond_that_the_file_names_must_be_there(tmp_path: Path) -> None:
    lines = lines_of("ACE-CYS-GLY-GLY-CYS-NME", tmp_path)
    named = "SSBOND   1 CYS A    2    CYS A    5                          1555   1555  2.04"
    with pytest.raises(InputError, match="between the cysteines A 2 and A 5 is named, but their sulfur atoms are not"):
        read([named, *lines], tmp_path)
    assert read([named, *lines_of(RING, tmp_path)], tmp_path).digest == peptide(RING).digest


def test_a_sulfur_with_two_partners_is_refused(tmp_path: Path) -> None:
    lines = lines_of("ACE-CYS-GLY-CYS-GLY-CYS-NME", tmp_path)
    first = next(x for x in lines if name_of(x) == "SG")
    near = {4: moved(first, 1.0), 6: moved(first, -1.0)}
    lines = [
        edit(near[n], number=str(n)) if name_of(x) == "SG" and (n := residue_number(x)) in near else x for x in lines
    ]
    with pytest.raises(InputError, match="the sulfur of CYS2 is bonded to CYS4 and to CYS6"):
        read(lines, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ACE-CYX-NME", "a disulfide bond has two"),
        ("ACE-CYX-GLY-CYX-GLY-CYX-NME", "3 CYX"),
        ("ACE-CYX1-GLY-CYX2-NME", "1 CYX1"),
        ("CYM-GLY", "deprotonated cysteine"),
    ],
)
def test_cysteines_that_make_no_pairs_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(text)


@pytest.mark.parametrize("text", ["ACE-ALA-NHE", "ACE-ALA-NH2", "ALA-SER-NH2"])
def test_an_amide_end_is_built_and_read_back(text: str, tmp_path: Path) -> None:
    molecule = peptide(text)
    assert molecule.residue_names[-1] == "NH2"
    assert molecule.charges.sum() == pytest.approx(0.0 if text.startswith("ACE") else 1.0, abs=1e-5)
    again = read(lines_of(text, tmp_path), tmp_path)
    assert again.digest == molecule.digest
    assert sequence_of(again.topology) == parse(text)


def test_an_amide_that_charmm_writes_into_the_last_residue_is_a_cap(tmp_path: Path) -> None:
    lines = lines_of("ACE-ALA-NHE", tmp_path)
    names = {"N": "NT", "HN1": "HT1", "HN2": "HT2"}
    patched = [
        edit(x, name=names.get(name_of(x), name_of(x)), residue="ALA", number="2") if x[17:20] == "NH2" else x
        for x in lines
    ]
    molecule = read(patched, tmp_path)
    assert molecule.digest == peptide("ACE-ALA-NHE").digest
    np.testing.assert_allclose(molecule.positions, peptide("ACE-ALA-NHE").positions, atol=5.01e-5)
