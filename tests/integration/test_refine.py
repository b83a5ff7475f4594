"""One round of active learning on toy force fields and made-up labels: committee, run, choice, retraining, guard."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsim.chem.catalog import find_system
from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.bridges import torchscript  # noqa: F401 - torch before OpenMM's plugins
from mlsim.deploy.card import Description
from mlsim.deploy.export import export
from mlsim.md.settings import LabelSettings, RunSettings
from mlsim.workflow.conformations import Conformations
from mlsim.workflow.training import refine as work
from mlsim.workflow.training.refine import RefineSettings, uncertain
from tests.toy_artifact import CONDITIONS, declared_verified, toy_model


@pytest.fixture(scope="module")
def names(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two members on disk; a tiny energy scale, so that MD with them is vacuum MD."""
    place = tmp_path_factory.mktemp("forcefields")
    for seed in (1, 2):
        artifact = export(toy_model(seed), ala2, place / f"toy-{seed}", Description(**CONDITIONS), 128)
        declared_verified(artifact)
    return [str(place / f"toy-{seed}") for seed in (1, 2)]


def made_up_labels(ala2: Molecule, count: int) -> ForceFrames:
    """Shipped instantaneous frames, as if they were averages with a known error."""
    source = find_system("alanine-dipeptide").directory / "training" / "frames.h5"
    frames = ForceFrames.load(source)
    frames = frames.take(np.linspace(0, len(frames) - 1, count).astype(int))
    return replace(
        frames,
        covariance=np.broadcast_to(75.0**2 * np.eye(66), (count, 66, 66)),
        stderr=np.full((count, 22, 3), 75.0),
        provenance={"sampled_ps": [1.0] * count, "moved_ps": 1.0, "wall_seconds": 1.0},
    )


def test_candidates_are_the_most_uncertain_frames_and_at_least_as_many_as_labels() -> None:
    found = Conformations(np.zeros((10, 1, 3)), np.zeros(10, int), np.arange(10.0), "x")
    spread = np.array([5, 1, 9, 2, 8, 0, 3, 7, 4, 6])
    assert uncertain(found, spread, 0.3, 1).time_ps.tolist() == [2, 4, 7]
    assert uncertain(found, spread, 0.1, 4).time_ps.tolist() == [2, 4, 7, 9]
    assert len(uncertain(found, spread, 0.1, 20)) == 10


def test_a_round_leaves_new_verified_members_and_a_second_call_has_nothing_to_do(
    ala2: Molecule, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Conformations] = []

    def fake_label(settings: LabelSettings, candidates: Conformations, directory: Path, **_: Any) -> Path:
        asked.append(candidates)
        return made_up_labels(ala2, settings.count).save(directory / "labels.h5")

    monkeypatch.setattr(work, "label", fake_label)
    run = RunSettings.parse({"ns": 0.0004, "report_ps": 0.02, "platform": "Reference", "seed": 3, "timestep_fs": 1.0})
    labels = LabelSettings.parse({"count": 12})
    settings = RefineSettings(system="alanine-dipeptide", discard_ps=0.1, uncertain_share=0.5, held_out=0.25)
    training = {"epochs": 2, "batch_size": 4, "block_ps": 100.0}
    assert work.collect(names, run, labels, settings, tmp_path) is not None
    assert len(asked[0]) == 12
    members = work.retrain(names, (), training, settings, tmp_path, "new", "alanine-dipeptide")
    assert [m.artifact.name for m in members] == ["new-1", "new-2"]
    for member in members:
        assert member.errors is not None
        assert member.artifact.card.verified is not None
        assert member.artifact.region() is not None
        assert "refined from toy" in member.artifact.card.description.training.notes
    assert members[0].artifact.digest != members[1].artifact.digest
    again = work.retrain(names, (), training, settings, tmp_path, "new", "alanine-dipeptide")
    assert [m.artifact.digest for m in again] == [m.artifact.digest for m in members]
    guarded_run(members[0].artifact.directory, tmp_path / "guarded", monkeypatch)


def guarded_run(forcefield: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new member drives a run that says how much of it was outside its training region."""
    options = ["--ns", "0.001", "--platform", "Reference", "--report-ps", "0.1", "--guard", "report", "--seed", "1"]
    solvent = ["--solvent", f"learned:{forcefield}", "--timestep-fs", "1"]
    monkeypatch.setattr(sys, "argv", ["mlsim", "run", "alanine-dipeptide", "-o", str(out), *solvent, *options])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert not ended.value.code
    found = json.loads((out / "run.json").read_text())["observers"]["guard"]
    assert found["frames"] == 10
    assert 0.0 <= found["fraction_outside"] <= 1.0
    assert found["threshold"] > 0


def test_committee_and_force_error_at_the_command_line(
    ala2: Molecule,
    names: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = made_up_labels(ala2, 30).save(tmp_path / "labels.h5")

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["mlsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        assert not ended.value.code
        return capsys.readouterr().out

    members = ("--forcefield", names[0], "--forcefield", names[1])
    said = call("committee", data, *members, "--system", "alanine-dipeptide", "-o", tmp_path / "c.csv")
    assert "30 frames, 2 members" in said
    table = np.loadtxt(tmp_path / "c.csv", delimiter=",", skiprows=1)
    assert table.shape == (30, 6)
    assert (table[:, 5] > 0).all()
    said = call("force-error", data, "--gb", "obc2", "--forcefield", names[0], "-o", tmp_path / "e.json")
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [row["predictor"] for row in rows] == ["zero", "obc2", "toy-1"]
    assert rows[1]["projected"]["value"] < rows[0]["projected"]["value"]
    assert "noise of the labels 75.00 removed" in said
