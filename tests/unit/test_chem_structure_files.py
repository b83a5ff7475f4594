"""Structure files as people have them: what they mean is read, what they lack is said."""

from __future__ import annotations

import gzip
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from openmm import app, unit

from mlsim.chem import checks
from mlsim.chem.assembly import assemble
from mlsim.chem.catalog import load_system, read_structure
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import Torsions, place_heavy_atoms
from mlsim.chem.sequence import parse
from mlsim.chem.templates import sequence_of
from mlsim.errors import InputError, MissingError
from tests.unit.pdb_lines import edit, is_hydrogen, lines_of, moved, name_of, peptide, read, residue_number

CHAIN = "ACE-HIS-LEU-ILE-VAL-GLY-NME"


def _same(molecule: Molecule, sequence: str) -> None:
    assert molecule.digest == peptide(sequence).digest
    np.testing.assert_allclose(molecule.positions, peptide(sequence).positions, atol=5.01e-5)


# ---- alternate locations ----


def _of_leucine(lines: list[str]) -> list[str]:
    return [x for x in lines if x[17:20] == "LEU"]


def test_an_incomplete_location_is_passed_over_for_the_whole_residue(tmp_path: Path) -> None:
    lines = lines_of(CHAIN, tmp_path)
    side_chain = {name_of(x) for x in _of_leucine(lines)} - {"N", "H", "CA", "HA", "C", "O"}
    turned = [
        edit(moved(x, 0.4), altloc="A") for x in _of_leucine(lines) if name_of(x) in side_chain and name_of(x) != "CD2"
    ]
    whole = [edit(x, altloc="B") if x in _of_leucine(lines) and name_of(x) in side_chain else x for x in lines]
    _same(read([*turned, *whole], tmp_path), CHAIN)


def test_a_location_without_hydrogens_is_complete_and_they_are_added(tmp_path: Path) -> None:
    lines = lines_of(CHAIN, tmp_path)
    first = [edit(x, altloc="A") for x in _of_leucine(lines) if not is_hydrogen(x)]
    second = [edit(moved(x, 0.05), altloc="B") for x in _of_leucine(lines)]
    molecule = read([x for x in lines if x[17:20] != "LEU"] + first + second, tmp_path)
    assert molecule.digest == peptide(CHAIN).digest
    heavy = [k for k, e in enumerate(molecule.elements) if e != "H"]
    np.testing.assert_allclose(molecule.positions[heavy], peptide(CHAIN).positions[heavy], atol=5.01e-5)


@pytest.mark.parametrize(
    ("of_a", "of_b", "shift"), [("0.30", "0.70", 0.0), ("0.70", "0.30", 0.1), ("0.50", "0.50", 0.1)]
)
def test_of_complete_locations_the_highest_occupancy_counts_and_then_the_first(
    of_a: str, of_b: str, shift: float, tmp_path: Path
) -> None:
    lines = lines_of("ACE-ALA-NME", tmp_path)
    first = [edit(moved(x, 0.1), altloc="A", occupancy=of_a) for x in lines]
    second = [edit(x, altloc="B", occupancy=of_b) for x in lines]
    molecule = read([x for pair in zip(first, second, strict=True) for x in pair], tmp_path)
    expected = peptide("ACE-ALA-NME").positions + shift / 10
    np.testing.assert_allclose(molecule.positions, expected, atol=1.1e-4)


# ---- numbers of residues ----


@pytest.mark.parametrize(
    "places",
    [
        [("1", "A"), ("2", "A"), ("1", ""), ("2", ""), ("3", ""), ("4", ""), ("5", "")],
        [("1", "C"), ("1", "B"), ("1", "A"), ("1", ""), ("2", ""), ("3", ""), ("4", "")],
        [("9997", ""), ("9998", ""), ("9999", ""), ("0", ""), ("1", ""), ("2", ""), ("3", "")],
        [("-2", ""), ("-1", ""), ("5", ""), ("40", ""), ("41", ""), ("41", "A"), ("7", "")],
        [("A000", ""), ("A001", ""), ("A002", ""), ("A003", ""), ("A004", ""), ("A005", ""), ("A006", "")],
    ],
)
def test_residues_are_read_in_the_order_of_the_file_whatever_their_numbers(
    places: list[tuple[str, str]], tmp_path: Path
) -> None:
    lines = lines_of(CHAIN, tmp_path)
    numbered = [
        edit(x, number=places[residue_number(x) - 1][0], insertion=places[residue_number(x) - 1][1] or " ")
        for x in lines
    ]
    _same(read(numbered, tmp_path), CHAIN)


def test_residues_in_any_order_with_any_numbers_are_read_along_their_peptide_bonds(tmp_path: Path) -> None:
    lines = lines_of("ACE-ALA-SER-NME", tmp_path)
    for order in permutations((1, 2, 3, 4)):
        shuffled = [edit(x, number=str(9 - 2 * k)) for k in order for x in lines if residue_number(x) == k]
        _same(read(shuffled, tmp_path), "ACE-ALA-SER-NME")


@pytest.mark.parametrize("number", ["1", "2", "3"])
@pytest.mark.parametrize("code", ["HOH", "SOL", "TIP3", "SPCE", "T3P"])
def test_water_that_reuses_a_number_of_the_peptide_is_left_out(number: str, code: str, tmp_path: Path) -> None:
    lines = [edit(x, chain=" ") for x in lines_of("ACE-ALA-NME", tmp_path)]
    water = [
        edit(moved(lines[0], 20.0 + k), name=n, code=code.ljust(4), number=number) for k, n in enumerate(("O", "H1"))
    ]
    with pytest.warns(UserWarning, match="1 water molecules left out"):
        _same(read([*lines, *water], tmp_path), "ACE-ALA-NME")


@pytest.mark.parametrize("code", ["CAL", "IOD", "ZN2", "CL-", "NA+", "SOD", "CLA", "MN", "POT", "BR"])
def test_an_ion_under_any_name_is_left_out(code: str, tmp_path: Path) -> None:
    lines = lines_of("ACE-ALA-NME", tmp_path)
    ion = edit(moved(lines[0], 20.0), name=code, residue=code, number="9")
    with pytest.warns(UserWarning, match="1 ions left out"):
        _same(read([*lines, ion], tmp_path), "ACE-ALA-NME")


# ---- states from hydrogens with unknown names ----


@pytest.mark.parametrize("state", ["HID", "HIE", "HIP", "ASP", "ASH", "GLU", "GLH", "LYS", "LYN"])
def test_a_state_is_known_from_where_hydrogens_sit_whatever_they_are_called(state: str, tmp_path: Path) -> None:
    sequence = f"ACE-{state}-NME"
    lines = lines_of(sequence, tmp_path)
    unknown = [edit(x, name=f"H{k:02d}") if is_hydrogen(x) else x for k, x in enumerate(lines)]
    molecule = read(unknown, tmp_path)
    assert molecule.digest == peptide(sequence).digest
    assert sequence_of(molecule.topology) == parse(sequence)


@pytest.mark.parametrize(("state", "first", "second"), [("ASH", "OD1", "OD2"), ("GLH", "OE1", "OE2")])
def test_an_acid_with_its_hydrogen_on_the_other_oxygen_is_the_neutral_one(
    state: str, first: str, second: str, tmp_path: Path
) -> None:
    swap = {first: second, second: first}
    lines = [edit(x, name=swap.get(name_of(x), name_of(x))) for x in lines_of(f"ACE-{state}-NME", tmp_path)]
    lines = [edit(x, name="HX") if name_of(x) in ("HD2", "HE2") else x for x in lines]
    _same(read(lines, tmp_path), f"ACE-{state}-NME")


# ---- what is missing, and what cannot be ----


def test_a_missing_last_oxygen_is_added_and_said(tmp_path: Path) -> None:
    lines = [x for x in lines_of("ALA-GLY-SER", tmp_path) if name_of(x) != "OXT"]
    with pytest.warns(UserWarning, match=r"the last oxygen \(OXT\) of SER3 was added"):
        molecule = read(lines, tmp_path)
    assert molecule.digest == peptide("ALA-GLY-SER").digest
    place = molecule.atom_names.index("OXT")
    np.testing.assert_allclose(molecule.positions[place], peptide("ALA-GLY-SER").positions[place], atol=0.02)
    assert checks.check(molecule).passed


def test_cysteine_without_its_sulfur_says_that_the_sulfur_is_missing(tmp_path: Path) -> None:
    lines = [x for x in lines_of("ACE-CYS-NME", tmp_path) if name_of(x) not in ("SG", "HG")]
    beta = next(x for x in lines if name_of(x) == "HB2")
    with pytest.raises(InputError, match="CYS2 lacks heavy atoms SG"):
        read([*lines, edit(moved(beta, 0.3), name="HB1")], tmp_path)


@pytest.mark.parametrize("hydrogens", [True, False])
def test_coordinates_in_nanometres_are_refused_and_the_unit_asked_for(hydrogens: bool, tmp_path: Path) -> None:
    lines = [x for x in lines_of("ACE-GLY-NME", tmp_path) if hydrogens or not is_hydrogen(x)]
    scaled = [
        edit(x, **{key: f"{float(x[c : c + 8]) / 10:.3f}" for key, c in (("x", 30), ("y", 38), ("z", 46))})
        for x in lines
    ]
    with pytest.raises(InputError, match=r"bond lengths: .* is the file in Angstrom\?"):
        read(scaled, tmp_path)


def test_atoms_at_one_point_are_refused_as_such(tmp_path: Path) -> None:
    zeros = [edit(x, x="0.000", y="0.000", z="0.000") for x in lines_of("ACE-GLY-NME", tmp_path)]
    with pytest.raises(InputError, match=r"residue ACE1: atoms \S+ and \S+ are at the same place"):
        read(zeros, tmp_path)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SEP", "phosphoserine"),
        ("TPO", "phosphothreonine"),
        ("PTR", "phosphotyrosine"),
        ("MSE", "use MET"),
        ("HYP", "use PRO"),
    ],
)
def test_a_modified_residue_is_named_with_what_to_use(code: str, words: str, tmp_path: Path) -> None:
    lines = [edit(x, residue=code) if x[17:20] == "ALA" else x for x in lines_of("ACE-ALA-NME", tmp_path)]
    with pytest.raises(InputError, match=words):
        read(lines, tmp_path)


def test_an_unknown_molecule_is_no_misspelt_amino_acid(tmp_path: Path) -> None:
    lines = lines_of("ACE-ALA-NME", tmp_path)
    with pytest.raises(InputError, match=r"unknown residue 'LEV' \(LEV9\): no amino acid, cap, water or ion"):
        read([*lines, edit(moved(lines[0], 20.0), name="C1", residue="LEV", number="9")], tmp_path)


# ---- other programs ----


def test_amber_names_of_the_ends_and_of_the_methylamide_are_understood(tmp_path: Path) -> None:
    lines = [
        edit(x, code={1: "NMET", 3: "CSER"}.get(residue_number(x), x[17:21])) for x in lines_of("MET-GLY-SER", tmp_path)
    ]
    _same(read(lines, tmp_path), "MET-GLY-SER")
    lines = [edit(x, residue="NAC") if x[17:20] == "NME" else x for x in lines_of("ACE-ALA-NME", tmp_path)]
    _same(read(lines, tmp_path), "ACE-ALA-NME")


def test_caps_that_charmm_writes_into_the_residue_beside_them_are_caps(tmp_path: Path) -> None:
    names = {
        1: {"CH3": "CAY", "H1": "HY1", "H2": "HY2", "H3": "HY3", "C": "CY", "O": "OY"},
        2: {"H": "HN"},
        3: {"N": "NT", "H": "HNT", "C": "CAT", "H1": "HT1", "H2": "HT2", "H3": "HT3"},
    }
    lines = [
        edit(x, name=names[residue_number(x)].get(name_of(x), name_of(x)), residue="ALA", number="1")
        for x in lines_of("ACE-ALA-NME", tmp_path)
    ]
    _same(read(lines, tmp_path), "ACE-ALA-NME")


def test_of_frames_separated_by_END_the_first_is_read(tmp_path: Path) -> None:
    lines = lines_of("ACE-ALA-NME", tmp_path)
    with pytest.warns(UserWarning, match="further frames left out"):
        _same(read([*lines, "END", *(moved(x, 5.0) for x in lines)], tmp_path), "ACE-ALA-NME")


def test_a_ring_through_the_backbone_is_refused_as_cyclic(tmp_path: Path) -> None:
    lines = [x for x in lines_of("GLY-GLY-GLY", tmp_path) if not is_hydrogen(x) and name_of(x) != "OXT"]
    carbon = next(x for x in lines if name_of(x) == "C" and residue_number(x) == 3)
    near = moved(carbon, 0.7)
    lines = [edit(near, name="N", number="1") if name_of(x) == "N" and residue_number(x) == 1 else x for x in lines]
    with pytest.raises(InputError, match=r"cyclic peptide \(GLY3 is bonded to GLY1\)"):
        read(lines, tmp_path)


# ---- kinds of files ----


def _write_mmcif(molecule: Molecule, path: Path) -> None:
    with open(path, "w") as handle:
        app.PDBxFile.writeFile(molecule.topology, molecule.positions * unit.nanometer, handle)


@pytest.mark.parametrize("ending", [".cif", ".mmcif", ".pdbx", ".CIF"])
def test_an_mmcif_file_gives_the_molecule_of_the_pdb_file(ending: str, tmp_path: Path) -> None:
    _write_mmcif(peptide(CHAIN), tmp_path / f"chain{ending}")
    molecule = load_system(tmp_path / f"chain{ending}")
    _same(molecule, CHAIN)
    assert molecule.name == "chain"


@pytest.mark.parametrize("ending", [".pdb", ".cif"])
def test_a_compressed_structure_file_is_read(ending: str, tmp_path: Path) -> None:
    plain = tmp_path / f"plain{ending}"
    _write_mmcif(peptide(CHAIN), plain) if ending == ".cif" else peptide(CHAIN).to_pdb(plain)
    (tmp_path / f"chain{ending}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    molecule = load_system(tmp_path / f"chain{ending}.gz")
    _same(molecule, CHAIN)
    assert molecule.name == "chain"


def test_a_cut_compressed_file_is_one_line(tmp_path: Path) -> None:
    lines_of(CHAIN, tmp_path)
    content = gzip.compress((tmp_path / "source.pdb").read_bytes())
    (tmp_path / "cut.pdb.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.pdb\.gz: cannot be read"):
        load_system(tmp_path / "cut.pdb.gz")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.gro", "a structure of GROMACS"), ("X.GRO", "a structure of GROMACS"), ("x.mol2", "a MOL2 file"),
        ("run.xtc", "a trajectory"), ("x.prmtop", "a topology without positions"), ("x.txt", "a file of another kind"),
        ("x.gro.gz", "a structure of GROMACS"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named_for_what_it_is(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("something\n")
    with pytest.raises(InputError, match=f"{words}, which is not read as a structure; expected a structure file"):
        load_system(tmp_path / name)


def test_a_directory_without_a_system_and_a_path_to_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"a directory without system\.yaml"):
        load_system(tmp_path)
    with pytest.raises(MissingError, match="no such file or directory"):
        load_system(tmp_path / "nothing.gro")


def test_a_sequence_is_one_beside_a_directory_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ACE-GLY-NME").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_system("ACE-GLY-NME").n_atoms == peptide("ACE-GLY-NME").n_atoms


# ---- the same checks at every door ----


def test_a_cis_amide_is_refused_wherever_a_structure_comes_in(tmp_path: Path) -> None:
    turned = place_heavy_atoms(parse("ACE-ALA-NME"), [Torsions(), Torsions(), Torsions(omega=0.0)])
    topology, positions = assemble("cis", parse("ACE-ALA-NME"), turned)
    Molecule.create("cis", topology, positions).to_pdb(tmp_path / "cis.pdb")
    for read_it in (load_system, read_structure):
        with pytest.raises(InputError, match=r"cis\.pdb: peptide bonds: not trans"):
            read_it(tmp_path / "cis.pdb")


def test_a_protein_is_read_in_about_a_second(tmp_path: Path) -> None:
    sequence = parse(("ARNDQEGHILKMFSTWYV" * 5)[:89])
    topology, positions = assemble("protein", sequence, place_heavy_atoms(sequence, [Torsions()] * 89))
    Molecule.create("protein", topology, positions).to_pdb(tmp_path / "protein.pdb")
    start = time.process_time()
    molecule = Molecule.from_pdb(tmp_path / "protein.pdb")
    assert time.process_time() - start < 5.0
    assert sequence_of(molecule.topology) == sequence


def test_a_name_longer_than_any_file_can_have_is_no_traceback() -> None:
    with pytest.raises(InputError, match="at most 100"):
        load_system("A" * 3000)
