"""Verification finds what it is there to find."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import CARD, ForceFieldArtifact, digests
from mlsim.deploy.bind import exported_energy
from mlsim.deploy.bridges import torchscript
from mlsim.deploy.bridges.program_file import differing_parts
from mlsim.deploy.kernel.table import FilterTable
from mlsim.deploy.verify import VerifyReport, equal_atoms, verify
from mlsim.workflow.force_fields.verify_field import verify as verify_by_name
from tests.toy_artifact import toy_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceFieldArtifact:
    return toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2)


@pytest.fixture(scope="module")
def report(artifact: ForceFieldArtifact) -> VerifyReport:
    return verify(artifact)


def failed(report: VerifyReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


def tampered(artifact: ForceFieldArtifact, place: Path) -> ForceFieldArtifact:
    """A copy whose card accepts whatever its files have become."""
    card = artifact.card.model_copy(update={"files": digests(place)})
    (place / CARD).write_text(card.to_yaml())
    return ForceFieldArtifact.read(place)


@pytest.fixture
def place(artifact: ForceFieldArtifact, tmp_path: Path) -> Path:
    shutil.copytree(artifact.directory, tmp_path / "toy")
    return tmp_path / "toy"


def test_a_sound_force_field_passes_every_check(report: VerifyReport) -> None:
    assert failed(report) == set()
    assert report.passed
    kinds = {check.name.split(":")[0] for check in report.checks}
    assert kinds == {
        "script",
        "model.pt",
        "compiled",
        "static = compiled",
        "bridges",
        "gradient",
        "rigid motion",
        "equal atoms",
        "cutoff",
    }


def test_the_record_lets_the_artifact_be_used(artifact: ForceFieldArtifact, report: VerifyReport, place: Path) -> None:
    ForceFieldArtifact.read(place).with_verification(report.record())
    loaded = ForceFieldArtifact.load(place)
    assert loaded.card.verified is not None
    assert len(loaded.card.verified.checks) == len(report.checks)


def test_another_molecule_of_the_same_types_can_be_checked(tmp_path: Path, ala2: Molecule) -> None:
    from mlsim.chem.catalog import load_system

    free = toy_artifact(tmp_path / "free", ala2, scope="types")
    assert verify(free, load_system("alanine-tripeptide")).passed


def test_a_script_of_other_weights_fails(artifact: ForceFieldArtifact, place: Path) -> None:
    weights = load_file(place / "weights.safetensors")
    weights["head_out.weight"] = weights["head_out.weight"] * np.float32(1.001)
    save_file(weights, place / "weights.safetensors")
    assert failed(verify(tampered(artifact, place))) == {"model.pt: parts that differ"}


class Writing(torch.nn.Module):
    """An energy that overwrites a file when it is computed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        written = torch.from_file(self.path, True, 4).fill_(1.0)
        return positions.sum(dim=(-2, -1)) * 0.0 + written.sum()


class WritingWhenLoaded(torch.nn.Module):
    """The same, as soon as it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.written = 0.0

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        self.written = float(torch.from_file(self.path, True, 4).fill_(1.0).sum())

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        return positions.sum(dim=(-2, -1)) * 0.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [Writing, WritingWhenLoaded])
def test_a_received_program_is_neither_loaded_nor_run_but_replaced(
    kind: type[torch.nn.Module], artifact: ForceFieldArtifact, place: Path, tmp_path: Path, ala2: Molecule
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 4)
    content = torchscript.to_bytes(torch.jit.script(kind(str(victim))))
    assert victim.read_bytes() == b"precious" * 4
    (place / "model.pt").write_bytes(content)
    stranger = tampered(artifact, place)
    assert failed(verify(stranger)) == {"model.pt: parts that differ"}
    found = verify_by_name(place)
    assert found.report.passed
    assert found.replaced
    assert victim.read_bytes() == b"precious" * 4
    assert not differing_parts((place / "model.pt").read_bytes(), artifact.program())
    ForceFieldArtifact.load(place)
    # what the attack would have done
    torch.jit.load(io.BytesIO(content))(torch.zeros(ala2.n_atoms, 3))
    assert victim.read_bytes() != b"precious" * 4


def test_programs_made_in_different_order_are_the_same_and_one_changed_line_is_not(
    artifact: ForceFieldArtifact, ala2: Molecule
) -> None:
    ours = artifact.program()
    torch.jit.script(torch.nn.Linear(3, 5))  # shifts the counters in the names of everything compiled after it
    bound = exported_energy(artifact, ala2, "float32")
    again = torchscript.to_bytes(torchscript.script(bound))
    assert differing_parts(ours, again) == []
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ours)) as old, zipfile.ZipFile(changed, "w") as new:
        for entry in old.infolist():
            part = old.read(entry)
            if "bridges/torchscript" in entry.filename and entry.filename.endswith(".py"):
                part = part.replace(b"return ", b"torch.save(1)\n    return ", 1)
            new.writestr(entry, part)
    assert differing_parts(changed.getvalue(), ours) == ["__torch__.mlsim.deploy.bridges.torchscript.ExportedEnergy#0"]
    assert differing_parts(b"no archive", ours) == ["the archive (BadZipFile)"]


def test_a_table_with_wrong_values_or_slopes_fails(artifact: ForceFieldArtifact, place: Path) -> None:
    table = artifact.table()
    assert table is not None
    FilterTable(table.values * 1.001, table.slopes * 1.001, table.cutoff_nm).save(place / "table.npz")
    assert {"compiled: energy, float64", "compiled: forces, float32"} <= failed(verify(tampered(artifact, place)))
    FilterTable(table.values, table.slopes * 0.9, table.cutoff_nm).save(place / "table.npz")
    assert "compiled: forces, float64" in failed(verify(tampered(artifact, place)))


def test_a_table_that_does_not_end_at_zero_fails_at_the_cutoff(artifact: ForceFieldArtifact, place: Path) -> None:
    table = artifact.table()
    assert table is not None
    values = table.values.copy()
    values[:, -1] += 1e-3
    FilterTable(values, table.slopes, table.cutoff_nm).save(place / "table.npz")
    assert "cutoff: energy jump, compiled" in failed(verify(tampered(artifact, place)))


def test_equal_atoms_of_alanine_dipeptide_are_its_methyl_hydrogens_and_amides(ala2: Molecule) -> None:
    names = ala2.atom_names
    groups = [{names[k] for k in group} for group in equal_atoms(ala2)]
    sizes = sorted(len(group) for group in equal_atoms(ala2))
    assert sum(sizes) >= 9
    assert {"HB1", "HB2", "HB3"} in groups
