"""Mean-force labels: errors freed of noise, and fits weighted by covariance, against known truth and known noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from mlsim.cli.training import train as cli
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting.solvent.force_matching import ForceMatching
from mlsim.fitting.solvent.mean_force_error import mean_force_errors
from mlsim.fitting.solvent.mean_force_matching import MeanForceMatching, defaults, fit, inverse_covariance
from mlsim.fitting.solvent.projection import remove_rigid
from tests.unit.test_train_force_matching import VALID, settings, student, toy_frames


def noisy(truth: ForceFrames, seed: int, level: float = 60.0) -> ForceFrames:
    """Labels with errors of known, anisotropic and frame-dependent covariance about the exact forces."""
    rng = np.random.default_rng(seed)
    size = 3 * truth.n_atoms
    factor = level * rng.normal(size=(len(truth), size, size)) / np.sqrt(size)
    factor *= rng.uniform(0.5, 1.5, size=(len(truth), 1, 1))
    error = np.einsum("fij,fj->fi", factor, rng.normal(size=(len(truth), size)))
    covariance = np.einsum("fij,fkj->fik", factor, factor)
    return replace(truth, forces=truth.forces + error.reshape(truth.forces.shape), covariance=covariance)


def test_the_corrected_error_is_the_true_one_whatever_the_noise() -> None:
    truth = toy_frames(400)
    wrong = 5.0 * np.random.default_rng(7).normal(size=truth.forces.shape)
    wrong = remove_rigid(wrong, truth.positions)
    true_rms = float(np.sqrt((wrong**2).mean()))
    squares: dict[str, list[float]] = {"corrected": [], "projected": []}
    for seed in range(30):
        row = mean_force_errors(noisy(truth, seed), {"model": truth.forces + wrong}, block_ps=2.0).of("model")
        assert row.raw.value > 10 * true_rms
        for name, values in squares.items():
            value = getattr(row, name).value
            values.append(value * abs(value))
    for values in squares.values():
        allowed = 3 * np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(true_rms**2, abs=allowed)
    assert np.std(squares["projected"]) < np.std(squares["corrected"])


def test_intervals_of_the_corrected_error_cover_the_truth() -> None:
    truth = toy_frames(150)
    wrong = remove_rigid(20.0 * np.random.default_rng(7).normal(size=truth.forces.shape), truth.positions)
    true_rms, covered = float(np.sqrt((wrong**2).mean())), 0
    for seed in range(40):
        row = mean_force_errors(noisy(truth, 100 + seed), {"m": truth.forces + wrong}, block_ps=1.0).of("m")
        covered += row.projected.low <= true_rms <= row.projected.high
    assert covered >= 34


def test_without_noise_corrected_and_raw_are_one_number_and_a_perfect_model_has_none() -> None:
    truth = toy_frames(40)
    exact = replace(truth, covariance=np.zeros((40, 15, 15)))
    errors = mean_force_errors(exact, {"model": truth.forces}, block_ps=5.0)
    assert errors.of("zero").raw == errors.of("zero").corrected
    assert errors.of("model").raw.value == errors.of("model").projected.value == 0.0
    with pytest.raises(InputError, match="mlsim label"):
        mean_force_errors(truth, {}, block_ps=5.0)


def test_equal_uncorrelated_errors_give_the_loss_of_plain_force_matching() -> None:
    truth, model = toy_frames(32), student().double()
    labels = replace(truth, covariance=np.broadcast_to(9.0 * np.eye(15), (32, 15, 15)))
    plain = ForceMatching(model, truth, VALID, settings(labels="raw", engine="exact"), None)
    mean = MeanForceMatching(plain, labels, labels, None)
    index = np.arange(8)
    with torch.no_grad():
        assert mean.loss(index).item() == pytest.approx(plain.loss(index).item(), rel=1e-5)
    assert mean.scale == pytest.approx(plain.scale, rel=1e-5)


def test_weights_are_the_inverse_covariance_above_the_floor() -> None:
    labels = noisy(toy_frames(5), seed=1)
    found = inverse_covariance(labels, floor=2.0)
    assert labels.covariance is not None
    for one, covariance in zip(found, labels.covariance, strict=True):
        np.testing.assert_allclose(one @ (covariance + 4.0 * np.eye(15)), np.eye(15), atol=1e-3)


def test_generalised_least_squares_beats_projection_where_noise_is_correlated() -> None:
    """The best linear fit of one amplitude has a third of the variance with A than with the identity."""
    truth = toy_frames(64)
    direction = np.asarray(truth.forces, dtype=float).reshape(64, -1)
    spread = {"weighted": [], "plain": []}
    for seed in range(60):
        labels = noisy(truth, seed)
        weights = inverse_covariance(labels, floor=4.0)
        y = labels.forces.reshape(64, -1)
        for name, a in (("weighted", weights), ("plain", np.broadcast_to(np.eye(15), weights.shape))):
            top, bottom = np.einsum("fi,fij,fj->", direction, a, y), np.einsum("fi,fij,fj->", direction, a, direction)
            spread[name].append(top / bottom)
    assert np.mean(spread["weighted"]) == pytest.approx(1.0, abs=0.05)
    assert np.var(spread["weighted"]) < np.var(spread["plain"]) / 3


def test_the_data_decide_which_objective_is_used(tmp_path: Path) -> None:
    train, valid = noisy(toy_frames(48), 1, 5.0), noisy(VALID, 2, 5.0)
    result = fit(student(), train, valid, settings(epochs=2), tmp_path / "mean", "off")
    assert result.epochs == 2
    assert (tmp_path / "mean" / "guard.npz").is_file()
    plain = fit(student(), toy_frames(48), VALID, settings(epochs=2), tmp_path / "plain", "off")
    assert plain.errors.rows[1].predictor == "model"
    assert defaults(toy_frames(48), 0.1) == {}
    assert defaults(train, 0.1)["batch_size"] == 4


def test_a_student_learns_from_noisy_means(tmp_path: Path) -> None:
    train, valid = noisy(toy_frames(128), 3, 8.0), noisy(VALID, 4, 8.0)
    before = MeanForceMatching(ForceMatching(student(), train, valid, settings(), None), train, valid, None).validate()
    result = fit(student(), train, valid, settings(epochs=15, batch_size=16), tmp_path / "fit", "off")
    assert result.history[-1]["valid"] < 0.7 * before


def test_the_command_takes_labels_with_covariance_and_prints_the_error_without_noise(tmp_path: Path) -> None:
    path = noisy(toy_frames(), 5, 5.0).save(tmp_path / "labels.h5")
    app = typer.Typer()
    cli.register(app)
    small = "--features 6 --blocks 1 --radial-functions 6 --epochs 2 --block-ps 8 --gap-ps 0 --held-out 0.2"
    outcome = CliRunner().invoke(app, ["train", "issnet", str(path), "-o", str(tmp_path / "fit"), *small.split()])
    assert outcome.exit_code == 0, outcome.output
    assert "error in the mean force on" in outcome.stdout
    rows = json.loads((tmp_path / "fit" / "mean_force.json").read_text())["rows"]
    assert [row["predictor"] for row in rows] == ["zero", "model"]
    assert rows[0]["projected"]["value"] < rows[0]["raw"]["value"]
    assert "batch_size: 14" in (tmp_path / "fit" / "train.yaml").read_text()  # suits 115 labels
