"""The training loop on a toy objective: schedule, early stopping, averaging, time, and what happens to NaN."""

from __future__ import annotations

import math

import pytest
import torch

from mlsim.dataset import batches
from mlsim.errors import SettingsError, UnphysicalError
from mlsim.fitting import checkpoint, loop
from mlsim.fitting.checkpoint import TrainState
from mlsim.fitting.settings import TrainSettings
from mlsim.models.contract import create


class Toy:
    """Pull one parameter to a target; held-out errors can be dictated."""

    n_frames = 40

    def __init__(self, model, scripted=None):
        self.model = model
        self.scripted = list(scripted) if scripted is not None else None
        self.calls = 0

    def loss(self, index):
        return (self.model.charge_weight - 1.0).square().mean() + 0.0 * float(index.sum())

    def readable(self, loss):
        return math.sqrt(loss)

    def validate(self):
        self.calls += 1
        if self.scripted is not None:
            return self.scripted[self.calls - 1]
        return (self.model.charge_weight - 1.0).square().mean().item()


def toy(scripted=None):
    model = create("issnet", {"features": 4, "n_radial": 3, "vocabulary": ("C",)}, seed=1)
    return model, Toy(model, scripted)


def settings(**changes):
    values = {"epochs": 5, "batch_size": 8, "learning_rate": 0.05, "warmup_steps": 0, **changes}
    return TrainSettings.parse(values)


def test_the_rate_warms_up_linearly_then_falls_to_its_final_fraction():
    s = settings(learning_rate=1.0, warmup_steps=10, final_fraction=0.1)
    rates = [loop.learning_rate(s, k, 110) for k in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert loop.learning_rate(s, 60, 110) == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert loop.learning_rate(settings(schedule="constant", learning_rate=0.3), 70, 110) == 0.3


def test_the_loss_falls_and_every_epoch_is_recorded(tmp_path):
    model, objective = toy()
    state = TrainState("x")
    assert loop.run(model, objective, settings(), state, tmp_path, "off") == "finished"
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4, 5]
    assert state.history[-1]["step"] == 5 * batches.count(40, 8)
    assert state.history[-1]["valid"] < 0.5 * state.history[0]["valid"]
    assert (tmp_path / "history.csv").read_text().count("\n") == 6
    assert checkpoint.load(tmp_path, "x").epoch == 5


def test_it_stops_when_held_out_errors_no_longer_fall_and_keeps_the_best_weights(tmp_path):
    model, objective = toy(scripted=[5.0, 3.0, 4.0, 3.5, 3.2, 1.0, 0.5])
    state = TrainState("x")
    assert loop.run(model, objective, settings(epochs=7, patience=3), state, tmp_path, "off") == "early"
    assert state.epoch == 5
    assert state.best_epoch == 2
    assert torch.equal(model.charge_weight.detach(), state.best["charge_weight"])
    assert not torch.equal(model.charge_weight.detach(), state.weights["charge_weight"])


def test_a_run_that_stopped_early_does_nothing_when_it_is_run_again(tmp_path):
    model, objective = toy(scripted=[3.0, 4.0, 4.0])
    s = settings(patience=2)
    loop.run(model, objective, s, TrainState("x"), tmp_path, "off")
    again, silent = toy(scripted=[])
    assert loop.run(again, silent, s, checkpoint.load(tmp_path, "x"), tmp_path, "off") == "early"
    assert torch.equal(again.charge_weight, model.charge_weight)


def test_the_average_of_the_weights_is_validated_and_kept(tmp_path):
    model, objective = toy()
    state = TrainState("x")
    loop.run(model, objective, settings(ema_decay=0.9), state, tmp_path, "off")
    kept = model.charge_weight.detach()
    assert torch.equal(kept, state.best["charge_weight"])
    assert torch.equal(kept, state.average["charge_weight"])
    lag = (kept - 1).abs() - (state.weights["charge_weight"] - 1).abs()
    assert (lag > 0).all()


def test_it_stops_when_the_time_is_used_up(tmp_path):
    model, objective = toy()
    state = TrainState("x")
    assert loop.run(model, objective, settings(max_minutes=1e-9), state, tmp_path, "off") == "time"
    assert state.epoch == 1


@pytest.mark.parametrize("where", ["loss", "gradient", "held out"])
def test_a_number_that_is_none_stops_the_run_and_leaves_the_last_good_state(tmp_path, where):
    model, objective = toy()
    good = objective.loss
    steps = batches.count(40, 8)
    calls = 0

    def broken(index):
        nonlocal calls
        calls += 1
        if calls <= 2 * steps + 2:
            return good(index)
        if where == "gradient":
            return good(index) + 0.0 * (model.charge_weight * 0).sum().sqrt()
        return good(index) * float("nan")

    if where == "held out":
        objective.scripted = [3.0, 2.0, float("nan")]
    else:
        objective.loss = broken
    with pytest.raises(UnphysicalError, match=r"nan in epoch 3.*after epoch 2 is kept.*lower learning_rate"):
        loop.run(model, objective, settings(), TrainState("x"), tmp_path, "off")
    kept = checkpoint.load(tmp_path, "x")
    assert kept.epoch == 2
    assert torch.isfinite(model.charge_weight).all()
    assert torch.equal(model.charge_weight.detach(), kept.best["charge_weight"])


@pytest.mark.parametrize("values", [{"epochs": 0}, {"ema_decay": 1.0}, {"learning_rate": 0}, {"max_minutes": -1}])
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(SettingsError):
        settings(**values)


def test_the_identity_ignores_the_time_limit_only():
    assert settings(max_minutes=3).identity() == settings().identity()
    assert settings(seed=3).identity() != settings().identity()
