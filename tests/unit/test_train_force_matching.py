"""Force matching on a toy molecule: a student learns a teacher's forces; kills, restarts and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import CheckpointError, InputError, MissingError, OccupiedError, SettingsError, UnphysicalError
from mlsim.fitting import checkpoint
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent import force_matching
from mlsim.fitting.solvent.force_matching import Baseline, ForceMatching, fit
from mlsim.models import weights
from mlsim.models.contract import create

TYPES = ("HC", "CT", "C", "O", "N")
CHARGES = np.array([0.1, -0.1, 0.6, -0.57, -0.03])
SMALL = {"features": 12, "blocks": 2, "n_radial": 10, "cutoff_nm": 0.8, "energy_scale": 5.0}


def toy_frames(n_frames=192, seed=0, noise=0.0):
    """Frames whose labels are the forces of a fixed network, plus noise with net force and torque."""
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) * 0.15
    x = corners + rng.uniform(-0.04, 0.04, size=(n_frames, 5, 3))
    teacher = create("issnet", {**SMALL, "energy_scale": 20.0}, seed=99).double()
    _, f = teacher.energy_and_forces(torch.from_numpy(x), teacher.type_indices(TYPES), torch.from_numpy(CHARGES))
    return ForceFrames(
        positions=x.astype(np.float32),
        forces=(f.detach().numpy() + noise * rng.normal(size=x.shape)).astype(np.float32),
        atom_types=TYPES,
        charges=CHARGES,
        elements=("H", "C", "C", "O", "N"),
        molecule_digest="0" * 16,
        cv_names=(),
        cvs=np.zeros((n_frames, 0)),
        bias=np.zeros(n_frames),
        run=np.zeros(n_frames, dtype=int),
        time_ps=np.arange(n_frames, dtype=float),
    )


TRAIN, VALID = toy_frames(), toy_frames(64, seed=1)


def student(seed=3, **changes):
    return create("issnet", {**SMALL, **changes}, seed)


def settings(**changes):
    values = {"epochs": 4, "batch_size": 32, "learning_rate": 0.01, "warmup_steps": 5, "block_ps": 8.0}
    return TrainSettings.parse({**values, **changes})


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def stable(history):
    return [{k: v for k, v in row.items() if k not in ("frames_per_s", "seconds")} for row in history]


def test_a_student_learns_the_forces_of_its_teacher(tmp_path):
    result = fit(student(), TRAIN, VALID, settings(epochs=60, patience=60), tmp_path / "fit", "off")
    zero, model = result.errors.of("zero").projected, result.errors.of("model").projected
    assert model.value < 0.2 * zero.value
    assert model.high < zero.low
    assert result.errors.n_blocks == 8


def test_everything_about_a_fit_is_written(tmp_path):
    result = fit(student(), TRAIN, VALID, settings(), tmp_path / "fit", "off")
    names = {path.name for path in (tmp_path / "fit").iterdir()}
    wanted = {"config.yaml", "weights.safetensors", "train.yaml", "history.csv", "learning-curve.png", "result.json"}
    assert names >= wanted | {"checkpoint.pt"}
    assert not [name for name in names if name.startswith(".")]
    assert same(weights.load(tmp_path / "fit"), result.model)
    record = json.loads((tmp_path / "fit" / "result.json").read_text())
    assert record["train_digest"] == TRAIN.digest
    assert record["held_out"]["rows"][1]["predictor"] == "model"
    assert record["best_epoch"] == result.best_epoch
    assert TrainSettings.from_yaml(tmp_path / "fit" / "train.yaml") == settings()
    assert (tmp_path / "fit" / "learning-curve.png").read_bytes()[:4] == b"\x89PNG"


def test_the_error_of_the_best_epoch_is_the_one_reported(tmp_path):
    result = fit(student(), TRAIN, VALID, settings(engine="exact"), tmp_path / "fit", "off")
    best = min(row["valid"] for row in result.history)
    assert result.errors.of("model").projected.value == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9, "weight_decay": 0.01, "engine": "exact"}])
def test_a_killed_fit_resumes_to_the_same_bits_as_one_that_was_not(tmp_path, monkeypatch, changes):
    s = settings(**changes)
    whole = fit(student(), TRAIN, VALID, s, tmp_path / "whole", "off")
    honest, calls = ForceMatching.loss, 0

    def dies(self, index):
        nonlocal calls
        calls += 1
        if calls == 15:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return honest(self, index)

    monkeypatch.setattr(ForceMatching, "loss", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(student(), TRAIN, VALID, s, tmp_path / "cut", "off")
    monkeypatch.setattr(ForceMatching, "loss", honest)
    resumed = fit(student(), TRAIN, VALID, s, tmp_path / "cut", "off", start="resume")
    assert same(whole.model, resumed.model)
    assert stable(whole.history) == stable(resumed.history)
    assert whole.errors == resumed.errors


def test_a_finished_fit_can_be_resumed_without_change(tmp_path):
    one = fit(student(), TRAIN, VALID, settings(), tmp_path, "off")
    two = fit(student(), TRAIN, VALID, settings(), tmp_path, "off", start="resume")
    assert same(one.model, two.model)
    assert one.history == two.history


def test_both_engines_learn_the_same(tmp_path):
    exact = fit(student(), TRAIN, VALID, settings(engine="exact"), tmp_path / "e", "off")
    quick = fit(student(), TRAIN, VALID, settings(engine="tabulated"), tmp_path / "t", "off")
    one, two = ([row["valid"] for row in result.history] for result in (exact, quick))
    assert one == pytest.approx(two, rel=1e-3)


def test_projected_and_raw_labels_learn_the_same(tmp_path):
    noisy = toy_frames(noise=20.0)
    raw = fit(student().double(), noisy, VALID, settings(labels="raw", clip_norm=1e9), tmp_path / "r", "off")
    projected = fit(student().double(), noisy, VALID, settings(clip_norm=1e9), tmp_path / "p", "off")
    assert projected.history[0]["train"] < raw.history[0]["train"]
    one, two = ([row["valid"] for row in result.history] for result in (raw, projected))
    assert one == pytest.approx(two, rel=1e-5)


def test_a_baseline_is_taken_off_the_labels_and_put_back_in_the_errors(tmp_path):
    rng = np.random.default_rng(5)
    extra = [rng.normal(size=frames.forces.shape).astype(np.float32) * 30 for frames in (TRAIN, VALID)]
    above = [ForceFrames(**{**vars_of(f), "forces": f.forces + e}) for f, e in zip((TRAIN, VALID), extra, strict=True)]
    plain = fit(student(), TRAIN, VALID, settings(), tmp_path / "a", "off")
    lifted = student(baseline="obc2")
    result = fit(lifted, *above, settings(), tmp_path / "b", "off", baseline=Baseline("obc2", *extra))
    assert [row.predictor for row in result.errors.rows] == ["zero", "obc2", "model"]
    assert result.errors.of("model").raw.value == pytest.approx(plain.errors.of("model").raw.value, rel=1e-3)
    assert result.errors.of("obc2").raw.value == pytest.approx(plain.errors.of("zero").raw.value, rel=1e-5)


def vars_of(frames):
    return {name: getattr(frames, name) for name in ForceFrames.__dataclass_fields__}


def test_a_baseline_that_the_model_does_not_expect_is_refused(tmp_path):
    with pytest.raises(InputError, match="set up for 'gbn2', the forces given are of 'none'"):
        fit(student(baseline="gbn2"), TRAIN, VALID, settings(), tmp_path / "a", "off")
    wrong = Baseline("gbn2", TRAIN.forces[:3], VALID.forces)
    with pytest.raises(InputError, match="expected shape"):
        fit(student(baseline="gbn2"), TRAIN, VALID, settings(), tmp_path / "a", "off", baseline=wrong)
    assert not (tmp_path / "a").exists()


def test_frames_of_two_molecules_are_refused(tmp_path):
    other = ForceFrames(**{**vars_of(VALID), "molecule_digest": "f" * 16})
    with pytest.raises(InputError, match="differ in molecule_digest"):
        fit(student(), TRAIN, other, settings(), tmp_path / "a", "off")


def test_a_directory_in_use_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OccupiedError, match="not empty"):
        fit(student(), TRAIN, VALID, settings(), tmp_path, "off")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_checkpoint_of_other_settings_data_or_model_is_refused(tmp_path):
    fit(student(), TRAIN, VALID, settings(epochs=1), tmp_path, "off")
    for model, train, other in (
        (student(), TRAIN, settings(epochs=2)),
        (student(), toy_frames(100), settings(epochs=1)),
        (student(features=8), TRAIN, settings(epochs=1)),
        (student(seed=4), TRAIN, settings(epochs=1)),
    ):
        with pytest.raises(CheckpointError, match="other settings, model or data"):
            fit(model, train, VALID, other, tmp_path, "off", start="resume")


def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(MissingError, match="no checkpoint"):
        fit(student(), TRAIN, VALID, settings(), tmp_path, "off", start="resume")
    fit(student(), TRAIN, VALID, settings(epochs=1), tmp_path / "a", "off")
    path = tmp_path / "a" / checkpoint.NAME
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"text", whole[:200] + bytes(2000) + whole[2200:]):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match="damaged"):
            fit(student(), TRAIN, VALID, settings(epochs=1), tmp_path / "a", "off", start="resume")


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"format": checkpoint.FORMAT, "version": 1, "history": [Evil()]}, tmp_path / checkpoint.NAME)
    with pytest.raises(CheckpointError, match="damaged or no training checkpoint"):
        checkpoint.load(tmp_path, "x")


def test_a_loss_that_is_no_number_keeps_the_checkpoint(tmp_path, monkeypatch):
    honest, calls = ForceMatching.loss, 0

    def breaks(self, index):
        nonlocal calls
        calls += 1
        return honest(self, index) * (float("nan") if calls == 9 else 1.0)

    monkeypatch.setattr(ForceMatching, "loss", breaks)
    with pytest.raises(UnphysicalError, match="epoch 2, step 9"):
        fit(student(), TRAIN, VALID, settings(), tmp_path, "off")
    monkeypatch.setattr(ForceMatching, "loss", honest)
    assert fit(student(), TRAIN, VALID, settings(), tmp_path, "off", start="resume").epochs == 4


def test_the_quick_engine_is_refused_where_it_cannot_work():
    class Other(torch.nn.Linear):
        pass

    with pytest.raises(SettingsError, match="'tabulated' serves ISSNet"):
        force_matching.force_engine(Other(1, 1), torch.zeros(1), torch.zeros(1), "tabulated")
