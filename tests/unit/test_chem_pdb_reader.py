"""Reading PDB files: any order and dialect gives the same molecule; what is broken is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError, MissingError
from tests.unit.pdb_lines import edit, lines_of, peptide, read

#: Every amino acid of this one has another kind of side chain; both ends are charged.
LONG = "PHRKMCQISW"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pdb")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(generator=st.randoms(use_true_random=False), sequence=st.sampled_from(["ACE-ALA-NME", LONG]))
def test_any_order_of_the_atoms_gives_the_same_molecule(generator, sequence: str, folder: Path) -> None:
    lines = lines_of(sequence, folder)
    generator.shuffle(lines)
    molecule, original = read(lines, folder), peptide(sequence)
    assert molecule.digest == original.digest
    assert molecule.atom_names == original.atom_names
    np.testing.assert_allclose(molecule.positions, original.positions, atol=5.01e-5)  # the format has 1e-4 nm


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(generator=st.randoms(use_true_random=False))
def test_any_order_of_a_file_without_hydrogens_gives_the_same_positions(generator, folder: Path) -> None:
    lines = [line for line in lines_of(LONG, folder) if line[76:78].strip() != "H"]
    molecule = read(lines, folder)
    generator.shuffle(lines)
    again = read(lines, folder)
    assert molecule.digest == peptide(LONG).digest
    np.testing.assert_array_equal(molecule.positions, again.positions)


def test_molecule_from_pdb_is_this_reader(folder: Path) -> None:
    lines_of("ACE-ALA-NME", folder)
    assert Molecule.from_pdb(folder / "source.pdb").digest == peptide("ACE-ALA-NME").digest


@pytest.mark.parametrize("dialect", [{"HB2": "1HB", "HB3": "2HB"}, {"HB2": "HB1", "HB3": "HB2"}, {"H": "HN"}])
def test_hydrogen_names_of_other_programs_are_understood(dialect: dict[str, str], folder: Path) -> None:
    lines = [edit(x, name=dialect.get(x[12:16].strip(), x[12:16])) for x in lines_of("ACE-MET-NME", folder)]
    assert read(lines, folder).digest == peptide("ACE-MET-NME").digest


def test_amber_names_of_caps_are_understood(folder: Path) -> None:
    amber = {"H1": "HH31", "H2": "HH32", "H3": "HH33", "C": "CH3"}
    lines = [
        edit(x, name=amber.get(x[12:16].strip(), x[12:16])) if "NME" in x else x
        for x in lines_of("ACE-ALA-NME", folder)
    ]
    assert read(lines, folder).digest == peptide("ACE-ALA-NME").digest


def test_hydrogens_with_unheard_of_names_are_known_by_the_atom_they_sit_on(folder: Path) -> None:
    lines = lines_of("ACE-LYS-NME", folder)
    strange = [edit(x, name=f"H{k:03d}") if x[76:78].strip() == "H" else x for k, x in enumerate(lines)]
    molecule, original = read(strange, folder), read(lines, folder)
    assert molecule.digest == original.digest
    for parent in ("CA", "CB", "NZ"):
        i = original.atom_names.index(parent, 6)
        bonded = [b for pair in original.bonds.tolist() if i in pair for b in pair]
        np.testing.assert_allclose(
            np.sort(molecule.positions[bonded], axis=0), np.sort(original.positions[bonded], axis=0)
        )


@pytest.mark.parametrize("state", ["HID", "HIE", "HIP"])
@pytest.mark.parametrize("spelled", ["HIS", "state"])
def test_protonation_of_histidine_is_taken_from_its_hydrogens_or_its_name(
    state: str, spelled: str, folder: Path
) -> None:
    sequence = f"ACE-{state}-NME"
    lines = lines_of(sequence, folder)
    if spelled == "state":
        lines = [edit(x, residue=state) if "HIS" in x and x[76:78].strip() != "H" else x for x in lines]
        lines = [x for x in lines if x[17:20] != "HIS"]
    assert read(lines, folder).digest == peptide(sequence).digest


def test_the_first_model_and_the_first_alternate_location_are_read(folder: Path) -> None:
    lines = lines_of("ACE-ALA-NME", folder)
    first = [edit(x, altloc="A") if x[12:16].strip() == "CB" else x for x in lines]
    second = [edit(x, altloc="B", x="99.000") for x in first if x[12:16].strip() == "CB"]
    moved = [edit(x, x="50.000") for x in lines]
    molecule = read(["MODEL        1", *second, *first, "ENDMDL", "MODEL        2", *moved, "ENDMDL"], folder)
    np.testing.assert_allclose(molecule.positions, read(lines, folder).positions)


def test_water_and_ions_are_left_out_with_a_warning(folder: Path) -> None:
    lines = lines_of("ACE-ALA-NME", folder)
    water = [edit(lines[0], name="O", residue="HOH", chain="W", number=str(k)) for k in (1, 2)]
    ion = edit(lines[0], name="NA", residue="NA", chain="I", number="1")
    with pytest.warns(UserWarning, match="2 water molecules and 1 ions left out"):
        molecule = read([*lines, *water, ion], folder)
    assert molecule.n_atoms == 22


def _without(name: str, residue: str, lines: list[str]) -> list[str]:
    return [x for x in lines if not (x[12:16].strip() == name and x[17:20] == residue)]


def _mirror(lines: list[str]) -> list[str]:
    return [edit(x, z=f"{-float(x[46:54]):.3f}") for x in lines]


def _renamed(code: str, lines: list[str]) -> list[str]:
    return [edit(x, residue=code) if x[17:20] == "ALA" else x for x in lines]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: _without("CB", "ALA", x), "ALA2 lacks heavy atoms CB"),
        (lambda x: _mirror(x), "not the L form: ALA2 at CA"),
        (lambda x: _renamed("DAL", x), "DAL is D-alanine"),
        (lambda x: _renamed("XAA", x), "unknown residue 'XAA'"),
        (lambda x: [edit(x[0], x="nan"), *x[1:]], "has no finite coordinates"),
        (lambda x: [edit(x[0], x="********"), *x[1:]], "expected a PDB atom record"),
        (lambda x: [*x, x[3]], "occurs twice"),
        (lambda x: [*x, *(edit(y, chain="B") for y in x)], "2 chains"),
        (lambda x: [*x, edit(x[0], name="ZN", residue="LIG", number="9")], "unknown residue 'LIG'"),
        (lambda x: [*x, edit(x[10], name="CG")], "atom CG is not expected"),
        (lambda x: [edit(y, x=f"{float(y[30:38]) + 5:.3f}") if "NME" in y else y for y in x], "chain is broken"),
        (lambda x: [y for y in x if "ALA" not in y], "no amino acid"),
        (lambda x: [y for y in x if "ALA" in y], "no ff14SB parameters"),
        (lambda x: ["REMARK nothing"], "no ATOM records"),
    ],
)
def test_a_broken_file_is_refused_and_the_residue_named(spoil, words: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(spoil(lines_of("ACE-ALA-NME", folder)), folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "copy.pdb" in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        Molecule.from_pdb(tmp_path / "none.pdb")
    (tmp_path / "binary.pdb").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        Molecule.from_pdb(tmp_path / "binary.pdb")
