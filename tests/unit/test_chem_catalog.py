"""Finding systems and force fields by name, directory, file or sequence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlsim.chem import catalog
from mlsim.chem.peptide import build
from mlsim.chem.readers.system_directory import SystemRecord, read_system, write_system
from mlsim.errors import InputError, MissingError, OccupiedError, SettingsError, StorageError


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without systems of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(catalog.PATH_VARIABLE, raising=False)
    return tmp_path


def _write(directory: Path, name: str = "mine", **fields: str) -> None:
    record = SystemRecord.parse({"name": name, "sequence": "ACE-ALA-NME", **fields})
    write_system(build("ACE-ALA-NME"), record, directory)


def test_shipped_systems_are_found_from_any_directory(elsewhere: Path) -> None:
    names = [entry.record.name for entry in catalog.systems()]
    assert names == ["alanine-dipeptide", "alanine-tripeptide", "chignolin", "lys-ala-glu"]
    assert catalog.load_system("alanine-dipeptide").name == "alanine-dipeptide"


def test_a_misspelt_name_gets_a_suggestion(elsewhere: Path) -> None:
    with pytest.raises(MissingError, match="did you mean 'alanine-dipeptide'"):
        catalog.load_system("alanin-dipeptid")


def test_a_name_like_nothing_gets_the_list(elsewhere: Path) -> None:
    with pytest.raises(MissingError, match="known: alanine-dipeptide, alanine-tripeptide, chignolin, lys-ala-glu"):
        catalog.load_system("qqqq")


def test_a_system_may_be_a_directory_a_pdb_file_or_a_sequence(elsewhere: Path) -> None:
    _write(elsewhere / "ala2")
    digest = catalog.load_system("alanine-dipeptide").digest
    for given in ("ala2", "ala2/", elsewhere / "ala2", "ala2/structure.pdb", "ACE-ALA-NME"):
        assert catalog.load_system(given).digest == digest


def test_a_bad_sequence_is_refused_as_a_sequence(elsewhere: Path) -> None:
    with pytest.raises(InputError, match="did you mean ALA"):
        catalog.load_system("ACE-ALQ-NME")


def test_directories_of_the_environment_come_before_the_current_and_the_shipped_ones(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(elsewhere / "systems" / "alanine-dipeptide", "local")
    assert catalog.find_system("alanine-dipeptide").record.name == "local"
    _write(elsewhere / "first" / "systems" / "alanine-dipeptide", "first")
    monkeypatch.setenv(catalog.PATH_VARIABLE, os.pathsep.join([str(elsewhere / "first"), "/nowhere"]))
    assert catalog.find_system("alanine-dipeptide").record.name == "first"


def test_force_fields_are_found_by_name_and_by_path(elsewhere: Path) -> None:
    mine = elsewhere / "forcefields" / "mine"
    mine.mkdir(parents=True)
    (mine / "card.yaml").write_text("name: mine\n")
    assert catalog.forcefield_directory("mine") == mine
    assert catalog.forcefield_directory(mine) == mine
    assert "mine" in catalog.forcefields()
    with pytest.raises(MissingError, match="did you mean 'mine'"):
        catalog.forcefield_directory("mime")


def test_a_built_system_shares_the_default_force_field_of_the_shipped_one_with_its_sequence(elsewhere: Path) -> None:
    _write(elsewhere / "ala2")
    expected = catalog.default_forcefield("alanine-dipeptide")
    for given in ("ala2", "ACE-ALA-NME", "ala2/structure.pdb"):
        assert catalog.default_forcefield(given) == expected


def test_a_system_without_a_force_field_of_its_own_gets_the_one_for_any_peptide(elsewhere: Path) -> None:
    assert catalog.default_forcefield("ACE-TRP-NME") == catalog.TRANSFERABLE
    assert catalog.default_forcefield("chignolin") == catalog.TRANSFERABLE
    assert catalog.default_forcefield("ACE-ALA-NME") == "issnet-ala2"


def test_a_system_without_a_default_force_field_says_so(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "TRANSFERABLE", "not-in-sight")
    with pytest.raises(MissingError, match="no default learned force field for 'ACE-TRP-NME'"):
        catalog.default_forcefield("ACE-TRP-NME")


def test_a_directory_that_holds_something_is_not_written_to(elsewhere: Path) -> None:
    _write(elsewhere / "ala2")
    with pytest.raises(OccupiedError, match="not empty"):
        _write(elsewhere / "ala2")
    (elsewhere / "file").write_text("x")
    with pytest.raises(OccupiedError, match="is a file"):
        _write(elsewhere / "file")


def test_an_empty_directory_is_written_to(elsewhere: Path) -> None:
    (elsewhere / "empty").mkdir()
    _write(elsewhere / "empty")
    assert sorted(p.name for p in (elsewhere / "empty").iterdir()) == ["structure.pdb", "system.yaml"]


def test_a_full_disk_leaves_nothing_half_written(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="no space left on the device"):
        _write(elsewhere / "ala2")
    assert list(elsewhere.iterdir()) == []


def test_an_unknown_key_in_system_yaml_gets_a_suggestion(elsewhere: Path) -> None:
    (elsewhere / "system.yaml").write_text("name: x\nsequense: AA\n")
    with pytest.raises(SettingsError, match="did you mean 'sequence'"):
        read_system(elsewhere)


def test_a_structure_of_another_sequence_is_refused(elsewhere: Path) -> None:
    _write(elsewhere / "ala2", sequence="ACE-GLY-NME")
    with pytest.raises(InputError, match=r"expected ACE-GLY-NME as in system\.yaml, got ACE-ALA-NME"):
        catalog.load_system("ala2")
