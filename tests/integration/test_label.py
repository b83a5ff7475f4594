"""Frozen-solute labels on a small scale: held solute, exact turning back, kills, processes, the command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.catalog import find_system
from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import CheckpointError, InputError, OccupiedError
from mlsim.md import prepare
from mlsim.md.engines.held_solute import UNITS_PER_LABEL, HeldSolute, Label, superposition
from mlsim.md.settings import LabelSettings, RunSettings
from mlsim.md.signals import Clock, StopRequest
from mlsim.records import RunRecord
from mlsim.workflow.conformations import Conformations, choose, read, torsions
from mlsim.workflow.force_data.label import label

#: 64 samples of one step each, hardly any equilibration: numbers without physics, in seconds.
TINY = {
    "count": 2,
    "max_ps": 0.25,
    "min_ps": 0.25,
    "record_ps": 0.004,
    "equilibration_ps": 0.02,
    "move_nm_per_ps": 5.0,
    "stderr_kJ_mol_nm": None,
    "padding_nm": 0.6,
    "platform": "CPU",
    "threads": 1,
}


def tiny(**changes: object) -> LabelSettings:
    return LabelSettings.parse(TINY | changes)


@pytest.fixture(scope="module")
def source() -> Path:
    return find_system("alanine-dipeptide").directory / "training" / "frames.h5"


@pytest.fixture(scope="module")
def some(ala2: Molecule, source: Path) -> Conformations:
    """Two hundred conformations of the shipped frames."""
    found = read(source, ala2)
    return found.take(np.linspace(0, len(found) - 1, 200).astype(int))


class StopAfterOne:
    """Progress that asks for a stop when the first label is done."""

    def __init__(self, stop: StopRequest) -> None:
        self.seen, self.stop = 0, stop

    def advance(self, steps: int) -> None:
        self.seen += steps
        if self.seen >= UNITS_PER_LABEL:
            self.stop.ask("test", 0)


@pytest.fixture(scope="module")
def made(some: Conformations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels, by two calls: the first is stopped after one."""
    place = tmp_path_factory.mktemp("labels") / "l"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "NPT_PS", 0.16)
        stop = StopRequest()
        label(tiny(), some, place, progress=StopAfterOne(stop), stop=stop)
    first = sorted((place / "labels").iterdir())
    assert [p.name for p in first] == ["00000.npz"]
    before = first[0].read_bytes()
    label(tiny(), some, place)
    assert first[0].read_bytes() == before  # a finished label is not made again
    return place


def test_processes_share_the_labels_and_a_box_can_be_taken_from_elsewhere(
    made: Path, some: Conformations, tmp_path: Path
) -> None:
    stop = StopRequest()
    progress = StopAfterOne(StopRequest())
    path = label(tiny(), some, tmp_path / "l", box=made / "box", processes=2, progress=progress, stop=stop)
    assert path is not None
    assert len(ForceFrames.load(path)) == 2
    assert progress.seen == 2 * UNITS_PER_LABEL
    assert (tmp_path / "l" / "box" / "start.npz").read_bytes() == (made / "box" / "start.npz").read_bytes()


def test_labels_carry_error_bars_and_provenance(made: Path, ala2: Molecule) -> None:
    frames = ForceFrames.load(made / "labels.h5")
    assert len(frames) == 2
    assert frames.covariance is not None
    assert frames.stderr is not None
    assert frames.covariance.shape == (2, 66, 66)
    np.testing.assert_allclose(frames.stderr.reshape(2, 66) ** 2, np.einsum("fii->fi", frames.covariance), rtol=1e-4)
    assert all(np.linalg.eigvalsh(c.astype(float)).min() > -1e-3 for c in frames.covariance)
    assert frames.molecule_digest == ala2.digest
    assert frames.provenance["sampled_ps"] == [0.256, 0.256]
    assert frames.provenance["conformations"] == "frames.h5"


def test_labels_leave_the_record_that_every_engine_leaves(made: Path, ala2: Molecule) -> None:
    values = json.loads((made / "run.json").read_text())
    assert values.keys() == RunRecord.model_fields.keys()
    record = RunRecord.read(made)
    assert (record.engine, record.status, record.reason) == ("held", "complete", None)
    assert record.molecule is not None
    assert (record.molecule.digest, record.molecule.solute_atoms) == (ala2.digest, 22)
    assert record.molecule.atoms > 1000
    frames = ForceFrames.load(made / "labels.h5")
    assert record.step * 0.004 >= sum(frames.provenance["sampled_ps"])  # type: ignore[operator]
    assert record.platform is not None


def test_what_comes_out_is_the_conformation_that_came_in_and_the_force_of_water_on_it(
    made: Path, some: Conformations
) -> None:
    """Were the explicit force turned wrongly, bonds and angles would not cancel: thousands of kJ/mol/nm."""
    frames = ForceFrames.load(made / "labels.h5")
    for one in frames.positions:
        assert np.abs(some.positions - one).max(axis=(1, 2)).min() < 1e-6
    assert 20 < np.sqrt((frames.forces.astype(float) ** 2).mean()) < 600


def test_the_solute_is_held_exactly_while_water_moves(made: Path, ala2: Molecule, some: Conformations) -> None:
    run = RunSettings(ns=1.0, platform="CPU", threads=1)
    water = prepare.starting_molecule(ala2, prepare_water(), run, 1, made / "box")
    held = HeldSolute(water, tiny(), "test")
    found = held.measure(some.positions[7], None, Clock(np.inf, StopRequest()))
    assert found is not None
    after = held.positions()
    here, there = after[:22], some.positions[7]
    np.testing.assert_allclose(distances(here), distances(there), atol=1e-5)
    assert np.abs(after[22:] - water.positions[22:]).max() > 0.01
    stop = StopRequest()
    assert held.measure(some.positions[8], None, Clock(0.0, stop)) is None
    assert stop.reason == "max_hours"


def prepare_water() -> prepare.Potential:
    from mlsim.potentials.explicit_water import ExplicitWater

    return ExplicitWater(0.6)


def distances(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(x[:, None] - x[None], axis=-1))


def test_superposition_finds_the_rotation_and_never_a_reflection() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    np.testing.assert_allclose(superposition(x, x @ turn + 2.0), turn, atol=1e-12)
    assert np.linalg.det(superposition(x, x * np.array([1.0, 1.0, -1.0]))) == pytest.approx(1.0)


def test_the_choice_covers_the_torsions(ala2: Molecule, source: Path) -> None:
    found = read(source, ala2)
    angles = torsions(found.positions, ala2)[1]
    chosen = angles[choose(found, ala2, 36, 1)]
    random = angles[np.random.default_rng(1).choice(len(angles), 36, replace=False)]

    def cells(values: np.ndarray) -> int:
        return len({tuple(c) for c in np.floor((values + np.pi) / (2 * np.pi) * 6).astype(int).tolist()})

    assert cells(chosen) > 1.2 * cells(random)


def test_other_settings_and_other_directories_are_refused(made: Path, some: Conformations, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="other max_ps"):
        label(tiny(max_ps=0.5), some, made)
    (tmp_path / "x").write_text("mine")
    with pytest.raises(OccupiedError, match="no labels"):
        label(tiny(), some, tmp_path)


def test_a_damaged_label_is_said_and_made_again_when_deleted(made: Path, some: Conformations, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(made, place)
    path = place / "labels" / "00001.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="delete it"):
        Label.load(path)


def test_the_command_says_what_was_done_and_refuses_nonsense(
    made: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mlsim", "label", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0)

    assert call(source, "--system", "alanine-dipeptide", "-o", made, "--stderr", "small") == 2
    assert "expected a number" in capsys.readouterr().err
    assert call(made, "--system", "alanine-dipeptide", "-o", made) == 2
    assert "no run in it" in capsys.readouterr().err
