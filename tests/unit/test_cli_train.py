"""``mlsim train`` at the command line, on toy frames."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from mlsim.cli.training import train
from mlsim.errors import InputError, OccupiedError
from mlsim.models import weights
from tests.unit.test_train_force_matching import toy_frames

app = typer.Typer()
train.register(app)
SMALL = "--features 6 --blocks 1 --radial-functions 6 --epochs 2 --batch 16 --block-ps 8 --gap-ps 0 --held-out 0.2"


def run(*arguments):
    before = torch.get_num_threads()
    try:
        return CliRunner().invoke(app, ["train", "issnet", *map(str, arguments)])
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_frames().save(tmp_path_factory.mktemp("data") / "frames.h5")


def test_it_trains_reports_the_test_error_and_leaves_a_model(data, tmp_path):
    outcome = run(data, "-o", tmp_path / "fit", *SMALL.split(), "--threads", 1)
    assert outcome.exit_code == 0, outcome.output
    assert "without net force and torque" in outcome.stdout
    assert weights.load(tmp_path / "fit").config.features == 6
    assert json.loads((tmp_path / "fit" / "test.json").read_text())["rows"][1]["predictor"] == "model"


def test_it_resumes(data, tmp_path):
    options = (data, "-o", tmp_path / "fit", *SMALL.split())
    assert run(*options).exit_code == 0
    assert isinstance(run(*options).exception, OccupiedError)
    assert run(*options, "--resume").exit_code == 0


def test_a_baseline_it_cannot_compute_is_refused_before_anything_is_written(data, tmp_path):
    outcome = run(data, "-o", tmp_path / "fit", *SMALL.split(), "--baseline", "obc2")
    assert isinstance(outcome.exception, InputError)
    assert not (tmp_path / "fit").exists()


def test_help_names_the_main_options():
    text = run("--help").stdout
    assert all(option in text for option in ("--features", "--cutoff-nm", "--epochs", "--resume", "--max-minutes"))
