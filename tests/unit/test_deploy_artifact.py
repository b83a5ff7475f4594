"""Artifacts: complete or absent, refused when anything is changed, undeclared or unverified."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import BACKENDS, ForceField
from mlsim.deploy.card import Description, Verification
from mlsim.deploy.export import export
from mlsim.errors import ArtifactError, MissingError, OccupiedError, StorageError
from mlsim.files import new_directory
from tests.toy_artifact import CONDITIONS, declared_verified, toy_artifact, toy_model


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceFieldArtifact:
    return toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2)


@pytest.fixture
def artifact(shared: ForceFieldArtifact, tmp_path: Path) -> ForceFieldArtifact:
    shutil.copytree(shared.directory, tmp_path / "toy")
    return ForceFieldArtifact.read(tmp_path / "toy")


def test_card_tells_what_the_force_field_is(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    card = artifact.card
    assert (card.name, card.kind, card.dtype, card.cutoff_nm) == ("toy", "issnet", "float32", 0.8)
    assert card.units.model_dump() == {"positions": "nm", "energy": "kJ/mol", "forces": "kJ/mol/nm"}
    assert card.exported_for.types == ala2.atom_types
    assert card.exported_for.molecule_digest == ala2.digest
    assert set(card.files) == {"config.yaml", "weights.safetensors", "model.pt", "molecule.pdb", "table.npz"}
    assert card.table is not None
    assert card.table.slope_error < 2e-5
    assert card.table.force_change is not None
    assert 0.0 < card.table.force_change < 1e-4
    text = (artifact.directory / "card.yaml").read_text()
    assert "/tmp" not in text
    assert yaml.safe_load(text)["verified"] is None


def test_weights_and_molecule_come_back(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    expected = {name: value.numpy() for name, value in toy_model().state_dict().items()}
    found = artifact.weights()
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)
    assert artifact.molecule().digest == ala2.digest
    assert artifact.model().config == toy_model().config


def test_script_takes_one_or_many_conformations_of_any_type_and_extra_atoms(
    artifact: ForceFieldArtifact, ala2: Molecule
) -> None:
    script = torch.jit.load(io.BytesIO(artifact.program()))  # made by this test
    x = torch.tensor(ala2.positions)
    energy = script(x)
    assert energy.shape == ()
    assert energy.dtype == torch.float64
    assert script(torch.stack([x, x])).shape == (2,)
    assert script(x.float()).dtype == torch.float32
    assert script(torch.cat([x, x + 9.0])) == energy
    assert torch.isclose(script(x + 1000.0), energy, rtol=1e-6)


def test_a_force_field_replaced_after_loading_is_not_bound(
    artifact: ForceFieldArtifact, ala2: Molecule, tmp_path: Path
) -> None:
    source = ForceField(artifact)
    before = source.bind(ala2).evaluate(ala2.positions[None])
    description = artifact.card.description
    other = export(toy_model(seed=2), ala2, tmp_path / "other" / "toy", description)  # a whole and sound force field
    shutil.rmtree(artifact.directory)
    shutil.copytree(other.directory, artifact.directory)
    for backend in BACKENDS:
        with pytest.raises(ArtifactError, match=r"weights.safetensors: .*was replaced in the meantime|table.npz: .*"):
            source.bind(ala2, backend)
    with pytest.raises(ArtifactError, match=r"model.pt: .* was replaced in the meantime"):
        artifact.program()
    (artifact.directory / "weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"weights.safetensors: cannot be read"):
        artifact.weights()
    after = ForceField(ForceFieldArtifact.read(other.directory)).bind(ala2).evaluate(ala2.positions[None])
    assert before[0] != after[0]  # or nothing would have been mixed


@pytest.mark.parametrize("name", ["model.pt", "weights.safetensors", "config.yaml", "table.npz", "molecule.pdb"])
def test_changed_or_missing_file_is_refused_by_name(artifact: ForceFieldArtifact, name: str) -> None:
    path = artifact.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=rf"{name}: does not match its digest"):
        ForceFieldArtifact.read(artifact.directory)
    path.unlink()
    with pytest.raises(MissingError, match=rf"{name}: declared in card.yaml but not there"):
        ForceFieldArtifact.read(artifact.directory)


def test_undeclared_file_is_refused(artifact: ForceFieldArtifact) -> None:
    (artifact.directory / "extra.pkl").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"extra.pkl: not declared"):
        ForceFieldArtifact.read(artifact.directory)


def test_card_with_unknown_or_unsafe_entries_is_refused(artifact: ForceFieldArtifact) -> None:
    path = artifact.directory / "card.yaml"
    card = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**card, "cutof_nm": 1.0}))
    with pytest.raises(ArtifactError, match="unknown key 'cutof_nm'; did you mean 'cutoff_nm'"):
        ForceFieldArtifact.read(artifact.directory)
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ArtifactError, match="not valid YAML"):
        ForceFieldArtifact.read(artifact.directory)
    path.write_text(yaml.safe_dump({**card, "files": {**card["files"], "../../passwd": "0"}}))
    with pytest.raises(MissingError, match="not there"):
        ForceFieldArtifact.read(artifact.directory)


def test_directory_without_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no force field here"):
        ForceFieldArtifact.read(tmp_path)


def test_only_a_verified_artifact_may_be_used(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    with pytest.raises(ArtifactError, match=r"toy: not verified yet.*run: mlsim verify"):
        ForceFieldArtifact.load(artifact.directory)
    declared_verified(artifact)
    assert ForceFieldArtifact.load(artifact.directory).digest == artifact.digest


def test_failed_verification_is_refused_with_the_names_of_the_checks(artifact: ForceFieldArtifact) -> None:
    check = {"name": "gradient", "value": 1.0, "bound": 1e-6, "passed": False}
    failed = {"passed": False, "files_digest": artifact.digest, "date": "", "versions": {}, "checks": [check]}
    artifact.with_verification(Verification.parse(failed))
    with pytest.raises(ArtifactError, match=r"toy: failed its verification \(gradient\)"):
        ForceFieldArtifact.load(artifact.directory)


def test_verification_of_other_files_does_not_count(artifact: ForceFieldArtifact) -> None:
    verified = declared_verified(artifact).card.verified
    assert verified is not None
    artifact.with_verification(verified.model_copy(update={"files_digest": "0" * 16}))
    with pytest.raises(ArtifactError, match="changed since it was verified"):
        ForceFieldArtifact.load(artifact.directory)


def test_existing_directory_is_not_overwritten(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    with pytest.raises(OccupiedError, match="is not empty"):
        toy_artifact(artifact.directory, ala2)


def test_failed_export_leaves_nothing_behind(tmp_path: Path, ala2: Molecule) -> None:
    model = toy_model()
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    with pytest.raises(ArtifactError, match="not finite: the training diverged"):
        export(model, ala2, tmp_path / "bad", Description(**CONDITIONS))
    assert list(tmp_path.iterdir()) == []


def test_directory_is_complete_or_absent(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_directory(tmp_path / "half") as fresh:
            (fresh / "file").write_text("x")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught, new_directory(tmp_path / "file" / "ff"):
        pass
    assert "\n" not in str(caught.value)


def test_export_is_the_same_twice_but_for_the_date(tmp_path: Path, ala2: Molecule) -> None:
    first, second = toy_artifact(tmp_path / "a", ala2), toy_artifact(tmp_path / "b", ala2)
    for name in ("weights.safetensors", "config.yaml", "molecule.pdb"):
        assert first.card.files[name] == second.card.files[name]
    one, other = first.table(), second.table()
    assert one is not None
    assert other is not None
    assert np.array_equal(one.values, other.values)
