"""A force field that is replaced under a run: the run never mixes two models."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.deploy.card import Description
from mlsim.deploy.export import export
from mlsim.errors import CheckpointError
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.workflow.simulation.run import ReplicaTask, ingredients
from tests.toy_artifact import CONDITIONS, declared_verified, toy_model


@pytest.fixture(scope="module")
def two(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sound force fields of one name."""
    place = tmp_path_factory.mktemp("ff")
    description = Description.parse({**CONDITIONS, "training": {"atom_types": sorted(set(ala2.atom_types))}})
    made = [export(toy_model(seed), ala2, place / str(seed) / "toy", description) for seed in (1, 2)]
    first, second = (declared_verified(artifact).directory for artifact in made)
    return first, second


def replace(directory: Path, by: Path) -> None:
    shutil.rmtree(directory)
    shutil.copytree(by, directory)


def test_resuming_with_a_replaced_force_field_is_refused_in_one_line(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    field, out = tmp_path / "toy", tmp_path / "r"
    shutil.copytree(two[0], field)

    def mlsim(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mlsim", "run", *arguments, "-o", str(out)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0)

    assert mlsim("alanine-dipeptide", "--solvent", f"issnet:{field}", "--ns", "0.002", "--replicas", "2") == 0
    written = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    replace(field, two[1])
    capsys.readouterr()
    assert mlsim("--resume", "--ns", "0.004") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "the force field was replaced in the meantime" in lines[0]
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == written
    replace(field, two[0])
    assert mlsim("--resume", "--ns", "0.004") == 0


def test_a_replica_in_a_process_of_its_own_refuses_another_force_field_than_the_run(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    field = tmp_path / "toy"
    shutil.copytree(two[0], field)
    settings = RunSettings(solvent=f"issnet:{field}", ns=0.002, seed=1, platform="Reference")
    _, potential = ingredients(settings)
    task = ReplicaTask(settings, tmp_path / "r", 0, "new", potential.describe())
    replace(field, two[1])
    with pytest.raises(CheckpointError, match="replaced in the meantime"):
        task(None, StopRequest())
    assert not (tmp_path / "r").exists()
