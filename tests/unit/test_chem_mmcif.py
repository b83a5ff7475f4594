"""Tables of mmCIF files: the syntax of the format is understood, and what is none is refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from openmm import app, unit

from mlsim.chem.molecule import Molecule
from mlsim.chem.readers import atom_records
from mlsim.chem.readers.mmcif import category
from mlsim.errors import InputError
from tests.unit.pdb_lines import lines_of, peptide

TEXT = """# a comment
data_first
_entry.id first
_cell.length_a 1.0
_cell.length_b ?
loop_
_note.id
_note.text
1 'it''s 5' # rest
2 "a ""b"
3
;several
words # and no comment
;
4 .
loop_
_atom_site.id
_atom_site.label_atom_id
1 "O5'"
2 '.'
data_second
_cell.length_c 3.0
"""


def test_values_are_read_as_the_format_quotes_them() -> None:
    assert category(TEXT, "_atom_site", "x") == [{"id": "1", "label_atom_id": "O5'"}, {"id": "2", "label_atom_id": "."}]
    texts = [row["text"] for row in category(TEXT, "_note", "x")]
    assert texts == ["it''s 5", 'a ""b', "several\nwords # and no comment", ""]


def test_a_category_without_a_loop_is_one_row_of_the_first_block() -> None:
    assert category(TEXT, "_cell", "x") == [{"length_a": "1.0", "length_b": ""}]
    assert category(TEXT, "_struct_conn", "x") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with data_"),
        ("HEADER of a PDB file\n", "does not begin with data_"),
        ("data_x\nloop_\n_atom_site.id\n_atom_site.x\n1 2 3\n", "3 values do not fill 2 columns"),
        ("data_x\nloop_\n_atom_site.id\n" + "'a " * 10_000, "a line of 30000 characters"),
    ],
)
def test_what_is_no_mmcif_file_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        category(text, "_atom_site", "x")


def test_the_author_s_numbers_and_the_first_model_count(tmp_path: Path) -> None:
    molecule = peptide("ACE-CYX-GLY-GLY-CYX-NME")
    with open(tmp_path / "one.cif", "w") as handle:
        app.PDBxFile.writeFile(molecule.topology, molecule.positions * unit.nanometer, handle)
    text = (tmp_path / "one.cif").read_text().replace("_struct_conn.", "_own_bond.")
    rows = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    second = []
    for row in rows:
        assert row.split()[-1] == "1"  # the number of the model stands last
        second.append(" ".join([*row.split()[:-1], "2"]))
    more = text.rstrip("#\n") + "\n" + "\n".join(second) + "\n#\n"
    bond = "loop_\n_struct_conn.conn_type_id\n" + "".join(
        f"_struct_conn.ptnr{k}_auth_{what}_id\n" for k in (1, 2) for what in ("asym", "seq")
    )
    (tmp_path / "two.cif").write_text(more + bond + "disulf A 2 A 5\n#\n")
    again = Molecule.from_pdb(tmp_path / "two.cif")
    assert again.digest == molecule.digest
    np.testing.assert_allclose(again.positions, molecule.positions, atol=5.01e-5)
    (tmp_path / "wrong.cif").write_text(more + bond + "disulf A 2 A 4\n#\n")
    with pytest.raises(InputError, match="between the cysteines A 2 and A 4 is named"):
        Molecule.from_pdb(tmp_path / "wrong.cif")


def test_a_file_larger_than_any_peptide_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atom_records, "LARGEST", 20_000)
    model = "\n".join(lines_of("ACE-ALA-NME", tmp_path))
    (tmp_path / "models.pdb").write_text("\n".join(["MODEL", model, "ENDMDL"] * 20))
    assert Molecule.from_pdb(tmp_path / "models.pdb").digest == peptide("ACE-ALA-NME").digest
    (tmp_path / "large.pdb.gz").write_bytes(gzip.compress(b"REMARK   1\n" * 100_000))
    with pytest.raises(InputError, match="larger than"):
        Molecule.from_pdb(tmp_path / "large.pdb.gz")
