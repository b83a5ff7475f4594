"""Reading PDB files: any order and dialect gives the same molecule; what is broken is named."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.errors import InputError, MissingError

#: Every amino acid of this one has another kind of side chain; both ends are charged.
LONG = "PHRKMCQISW"


@cache
def _peptide(sequence: str) -> Molecule:
    return build(sequence)


def _lines(sequence: str, folder: Path) -> list[str]:
    path = folder / "source.pdb"
    _peptide(sequence).to_pdb(path)
    return [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]


def _read(lines: list[str], folder: Path) -> Molecule:
    path = folder / "copy.pdb"
    path.write_text("\n".join(lines) + "\nEND\n")
    return Molecule.from_pdb(path)


def _edit(line: str, **fields: str) -> str:
    """Replace columns of an ATOM record."""
    columns = {"name": (12, 16), "altloc": (16, 17), "residue": (17, 20), "chain": (21, 22), "number": (22, 26)}
    columns |= {"x": (30, 38), "y": (38, 46), "z": (46, 54)}
    for key, value in fields.items():
        start, end = columns[key]
        line = line[:start] + f"{value:>{end - start}}"[: end - start] + line[end:]
    return line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pdb")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(generator=st.randoms(use_true_random=False), sequence=st.sampled_from(["ACE-ALA-NME", LONG]))
def test_any_order_of_the_atoms_gives_the_same_molecule(generator, sequence: str, folder: Path) -> None:
    lines = _lines(sequence, folder)
    generator.shuffle(lines)
    molecule, original = _read(lines, folder), _peptide(sequence)
    assert molecule.digest == original.digest
    assert molecule.atom_names == original.atom_names
    np.testing.assert_allclose(molecule.positions, original.positions, atol=5.01e-5)  # the format has 1e-4 nm


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(generator=st.randoms(use_true_random=False))
def test_any_order_of_a_file_without_hydrogens_gives_the_same_positions(generator, folder: Path) -> None:
    lines = [line for line in _lines(LONG, folder) if line[76:78].strip() != "H"]
    molecule = _read(lines, folder)
    generator.shuffle(lines)
    again = _read(lines, folder)
    assert molecule.digest == _peptide(LONG).digest
    np.testing.assert_array_equal(molecule.positions, again.positions)


def test_molecule_from_pdb_is_this_reader(folder: Path) -> None:
    _lines("ACE-ALA-NME", folder)
    assert Molecule.from_pdb(folder / "source.pdb").digest == _peptide("ACE-ALA-NME").digest


@pytest.mark.parametrize("dialect", [{"HB2": "1HB", "HB3": "2HB"}, {"HB2": "HB1", "HB3": "HB2"}, {"H": "HN"}])
def test_hydrogen_names_of_other_programs_are_understood(dialect: dict[str, str], folder: Path) -> None:
    lines = [_edit(x, name=dialect.get(x[12:16].strip(), x[12:16])) for x in _lines("ACE-MET-NME", folder)]
    assert _read(lines, folder).digest == _peptide("ACE-MET-NME").digest


def test_amber_names_of_caps_are_understood(folder: Path) -> None:
    amber = {"H1": "HH31", "H2": "HH32", "H3": "HH33", "C": "CH3"}
    lines = [
        _edit(x, name=amber.get(x[12:16].strip(), x[12:16])) if "NME" in x else x for x in _lines("ACE-ALA-NME", folder)
    ]
    assert _read(lines, folder).digest == _peptide("ACE-ALA-NME").digest


def test_hydrogens_with_unheard_of_names_are_known_by_the_atom_they_sit_on(folder: Path) -> None:
    lines = _lines("ACE-LYS-NME", folder)
    strange = [_edit(x, name=f"H{k:03d}") if x[76:78].strip() == "H" else x for k, x in enumerate(lines)]
    molecule, original = _read(strange, folder), _read(lines, folder)
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
    lines = _lines(sequence, folder)
    if spelled == "state":
        lines = [_edit(x, residue=state) if "HIS" in x and x[76:78].strip() != "H" else x for x in lines]
        lines = [x for x in lines if x[17:20] != "HIS"]
    assert _read(lines, folder).digest == _peptide(sequence).digest


def test_the_first_model_and_the_first_alternate_location_are_read(folder: Path) -> None:
    lines = _lines("ACE-ALA-NME", folder)
    first = [_edit(x, altloc="A") if x[12:16].strip() == "CB" else x for x in lines]
    second = [_edit(x, altloc="B", x="99.000") for x in first if x[12:16].strip() == "CB"]
    moved = [_edit(x, x="50.000") for x in lines]
    molecule = _read(["MODEL        1", *second, *first, "ENDMDL", "MODEL        2", *moved, "ENDMDL"], folder)
    np.testing.assert_allclose(molecule.positions, _read(lines, folder).positions)


def test_water_and_ions_are_left_out_with_a_warning(folder: Path) -> None:
    lines = _lines("ACE-ALA-NME", folder)
    water = [_edit(lines[0], name="O", residue="HOH", chain="W", number=str(k)) for k in (1, 2)]
    ion = _edit(lines[0], name="NA", residue="NA", chain="I", number="1")
    with pytest.warns(UserWarning, match="2 water molecules and 1 ions left out"):
        molecule = _read([*lines, *water, ion], folder)
    assert molecule.n_atoms == 22


def _without(name: str, residue: str, lines: list[str]) -> list[str]:
    return [x for x in lines if not (x[12:16].strip() == name and x[17:20] == residue)]


def _mirror(lines: list[str]) -> list[str]:
    return [_edit(x, z=f"{-float(x[46:54]):.3f}") for x in lines]


def _renamed(code: str, lines: list[str]) -> list[str]:
    return [_edit(x, residue=code) if x[17:20] == "ALA" else x for x in lines]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: _without("CB", "ALA", x), "ALA2 lacks heavy atoms CB"),
        (lambda x: _mirror(x), "not the L form: ALA2 at CA"),
        (lambda x: _renamed("DAL", x), "DAL is D-alanine"),
        (lambda x: _renamed("XAA", x), "unknown residue 'XAA'"),
        (lambda x: [_edit(x[0], x="nan"), *x[1:]], "has no finite coordinates"),
        (lambda x: [_edit(x[0], x="********"), *x[1:]], "expected a PDB atom record"),
        (lambda x: [*x, x[3]], "occurs twice"),
        (lambda x: [*x, *(_edit(y, chain="B") for y in x)], "2 chains"),
        (lambda x: [*x, _edit(x[0], name="ZN", residue="LIG", number="9")], "unknown residue 'LIG'"),
        (lambda x: [*x, _edit(x[10], name="CG")], "atom CG is not expected"),
        (lambda x: [_edit(y, x=f"{float(y[30:38]) + 5:.3f}") if "NME" in y else y for y in x], "chain is broken"),
        (lambda x: [y for y in x if "ALA" not in y], "no amino acid"),
        (lambda x: [y for y in x if "ALA" in y], "no ff14SB parameters"),
        (lambda x: ["REMARK nothing"], "no ATOM records"),
    ],
)
def test_a_broken_file_is_refused_and_the_residue_named(spoil, words: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        _read(spoil(_lines("ACE-ALA-NME", folder)), folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "copy.pdb" in str(caught.value)


def test_a_peptide_without_its_last_oxygen_is_incomplete(folder: Path) -> None:
    with pytest.raises(InputError, match="TRP10 lacks heavy atoms OXT"):
        _read(_without("OXT", "TRP", _lines(LONG, folder)), folder)


def test_a_disulfide_bond_is_refused(folder: Path) -> None:
    lines = _lines("ACE-CC-NME", folder)
    first, second = [k for k, x in enumerate(lines) if x[12:16].strip() == "SG"]
    near = {key: f"{float(lines[first][s : s + 8]) + 0.5:.3f}" for key, s in (("x", 30), ("y", 38), ("z", 46))}
    lines[second] = _edit(lines[second], **near)
    with pytest.raises(InputError, match="CYS2 and CYS3 form a disulfide bond"):
        _read(lines, folder)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        Molecule.from_pdb(tmp_path / "none.pdb")
    (tmp_path / "binary.pdb").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        Molecule.from_pdb(tmp_path / "binary.pdb")
