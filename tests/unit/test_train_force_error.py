"""Force errors and their block-bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.fitting.solvent.bootstrap import Interval
from mlsim.fitting.solvent.force_error import force_errors
from tests.unit.test_dataset_frames import make


def frames(n_frames=4000, seed=0, correlated=1):
    """Unit-variance labels that stay the same for ``correlated`` frames."""
    rng = np.random.default_rng(seed + 1000)  # not the stream of the positions
    forces = np.repeat(rng.normal(size=(n_frames // correlated, 3, 3)), correlated, axis=0)
    zeros = np.zeros(n_frames, dtype=int)
    return make(n_frames, dtype=np.float64, forces=forces, run=zeros, time_ps=np.arange(n_frames) * 0.5)


def test_zero_has_the_rms_of_the_labels_and_a_perfect_prediction_no_error():
    data = frames()
    errors = force_errors(data, {"model": data.forces}, block_ps=20.0)
    assert errors.of("zero").raw.value == pytest.approx(np.sqrt(np.mean(data.forces**2)))
    assert errors.of("model").raw.value == 0.0
    assert errors.of("model").projected.high == 0.0
    assert [row.predictor for row in errors.rows] == ["zero", "model"]
    assert (errors.n_frames, errors.n_blocks) == (4000, 100)


def test_the_projected_error_lacks_the_six_rigid_directions():
    data = frames()
    row = force_errors(data, {}, block_ps=20.0).of("zero")
    assert row.projected.value**2 / row.raw.value**2 == pytest.approx((9 - 6) / 9, abs=0.02)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = 0
    for seed in range(60):
        interval = force_errors(frames(800, seed, correlated=10), {}, block_ps=10.0, seed=seed).of("zero").raw
        covered += interval.low <= 1.0 <= interval.high
    assert 50 <= covered <= 60


def test_correlated_frames_get_wider_intervals():
    widths = []
    for correlated in (1, 20):
        interval = force_errors(frames(4000, 1, correlated), {}, block_ps=20.0).of("zero").raw
        widths.append(interval.high - interval.low)
    assert widths[1] > 2.5 * widths[0]


def test_the_record_is_plain_and_the_text_shows_the_interval():
    errors = force_errors(frames(), {}, block_ps=20.0)
    record = errors.as_dict()
    assert record["unit"] == "kJ/mol/nm"
    assert record["rows"][0]["raw"]["value"] == errors.of("zero").raw.value
    assert str(Interval(1.234, 1.1, 1.3)) == "1.23 [1.10, 1.30]"


def test_fewer_than_five_blocks_make_no_interval():
    one_block = force_errors(frames(400), {"model": np.zeros(1)}, block_ps=1e6).of("model")
    assert one_block.raw.low is None
    assert one_block.raw.high is None
    assert "no interval" in str(one_block.raw)
    assert one_block.raw.value > 0
