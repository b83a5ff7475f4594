"""Metadynamics and the exact second stage under its finished bias, in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.analysis.samples import from_runs
from mlsim.errors import SettingsError
from mlsim.md.settings import RunSettings
from mlsim.records import RunRecord
from mlsim.runs.bias_file import SavedBias
from mlsim.runs.trajectory import Run
from mlsim.units import kT
from mlsim.workflow.simulation.second_stage import FINISHED, FIXED, run_stages, steps_done, steps_of

SETTINGS = RunSettings(
    solvent="vacuum",
    ns=0.02,
    then_fixed_ns=0.01,
    bias="metadynamics",
    hill_every_ps=0.5,
    report_ps=0.1,
    platform="Reference",
    seed=4,
)


def test_the_second_stage_is_under_the_finished_bias_and_reweights_by_it(tmp_path: Path) -> None:
    outcomes = run_stages(SETTINGS, tmp_path / "run")
    assert [o.replica.directory for o in outcomes] == [tmp_path / "run" / FIXED]
    grown = SavedBias.load(tmp_path / "run" / "bias.npz")
    fixed = SavedBias.load(tmp_path / "run" / FIXED / "bias.npz")
    assert grown.grown
    assert grown.history is not None
    assert len(grown.history.step) == 40
    assert not fixed.grown
    np.testing.assert_array_equal(fixed.grid, grown.grid)
    second = Run.open(tmp_path / "run" / FIXED)
    assert second.replicas[0].n_frames == 100
    found = from_runs([second], ("phi", "psi"))
    np.testing.assert_allclose(found.log_weights, second.replicas[0].bias() / kT(300.0))
    assert RunRecord.read(tmp_path / "run" / FIXED).seed != 4  # its noise is not the first stage's again
    assert steps_done(tmp_path / "run", SETTINGS) == steps_of(SETTINGS) == 7_500


def test_a_second_stage_is_added_to_a_finished_run_and_continued(tmp_path: Path) -> None:
    run_stages(SETTINGS.model_copy(update={"then_fixed_ns": None}), tmp_path / "run")
    assert not (tmp_path / "run" / FIXED).exists()
    run_stages(SETTINGS, tmp_path / "run", "resume")
    longer = SETTINGS.model_copy(update={"then_fixed_ns": 0.015})
    (outcome,) = run_stages(longer, tmp_path / "run", "resume")
    assert outcome.replica.n_frames == 150
    whole = tmp_path / "whole"
    (undisturbed,) = run_stages(longer, whole)
    np.testing.assert_array_equal(outcome.replica.positions(), undisturbed.replica.positions())


def test_replicas_share_the_mean_of_their_biases(tmp_path: Path) -> None:
    several = SETTINGS.model_copy(update={"replicas": 2, "ns": 0.01})
    outcomes = run_stages(several, tmp_path / "run")
    assert len(outcomes) == 2
    each = [SavedBias.load(tmp_path / "run" / f"replica-0{k}" / "bias.npz").grid for k in range(2)]
    mean = SavedBias.load(tmp_path / "run" / FINISHED)
    assert not mean.grown
    np.testing.assert_allclose(mean.grid, 0.5 * (each[0] + each[1]))
    found = from_runs([Run.open(tmp_path / "run" / FIXED)], ("phi", "psi"))
    assert found.run.max() == 1
    assert found.log_weights is not None


def test_a_second_stage_without_a_growing_bias_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected bias 'metadynamics', got 'none'"):
        run_stages(SETTINGS.model_copy(update={"bias": "none"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
