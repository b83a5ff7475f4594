"""Errors of correlated series: known correlation times, blocks that stay inside runs, intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.analysis import uncertainty
from mlsim.analysis.surfaces import surface
from mlsim.errors import InputError
from tests.unit.torus_density import ALANINE


def _one_run(count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.int64)


@pytest.mark.parametrize("stay", [0.0, 0.5, 0.9])
def test_statistical_inefficiency_of_a_known_chain(stay: float) -> None:
    generator = np.random.default_rng(2)
    series = np.cos(ALANINE.chain(200_000, stay, generator)[:, 0])
    found = uncertainty.statistical_inefficiency(series, np.ones(len(series)), _one_run(len(series)))
    assert found == pytest.approx((1 + stay) / (1 - stay), rel=0.1)


def test_runs_stuck_in_different_places_count_as_one_sample_each() -> None:
    run = np.repeat(np.arange(8), 500)
    series = (run % 2).astype(float) + 0.01 * np.random.default_rng(1).normal(size=len(run))
    found = uncertainty.statistical_inefficiency(series, np.ones(len(run)), run)
    assert found > 300


def test_a_constant_has_inefficiency_one() -> None:
    assert uncertainty.statistical_inefficiency(np.full(50, 3.0), np.ones(50), _one_run(50)) == 1.0


def test_runs_must_be_grouped() -> None:
    with pytest.raises(InputError, match="follow each other"):
        uncertainty.block_labels(np.array([0, 1, 0]), 1)


@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.floats(1.0, 60.0))
@settings(max_examples=60, deadline=None)
def test_blocks_are_even_and_never_straddle_runs(lengths: list[int], block_frames: float) -> None:
    run = np.repeat(np.arange(len(lengths)), lengths)
    labels = uncertainty.block_labels(run, block_frames)
    assert labels[0] == 0
    assert set(np.diff(labels)) <= {0, 1}
    for index in range(len(lengths)):
        mine = labels[run == index]
        assert not set(mine) & set(labels[run != index])
        sizes = np.bincount(mine - mine.min())
        assert sizes.max() - sizes.min() <= 1


def test_the_block_length_follows_the_correlation_within_limits() -> None:
    assert uncertainty.choose_block_frames(10.0, 5_000) == 50.0
    assert uncertainty.choose_block_frames(1.0, 100_000) == 500.0
    assert uncertainty.choose_block_frames(1e4, 2_000) == 200.0


def test_the_bootstrap_variance_of_a_mean_is_unbiased_even_for_few_blocks() -> None:
    generator = np.random.default_rng(5)
    found = []
    for _ in range(400):
        data = generator.normal(size=5)
        counts = uncertainty.block_counts(5, 200, generator)
        found.append(np.var(counts @ data / counts.sum(axis=1)))
    assert np.mean(found) == pytest.approx(1.0 / 5.0, rel=0.1)


def test_one_block_has_no_error_bar() -> None:
    with pytest.raises(InputError, match="at least 2 blocks"):
        uncertainty.block_counts(1, 10, np.random.default_rng(0))


def test_effective_samples_of_equal_and_of_lopsided_weights() -> None:
    assert uncertainty.effective_samples(np.full(70, -900.0)) == pytest.approx(70.0)
    assert uncertainty.effective_samples(np.array([0.0, 0.0, -800.0])) == pytest.approx(2.0)


def test_splits_are_halves_of_one_run_or_groups_of_runs() -> None:
    assert uncertainty.split_labels(_one_run(6)).tolist() == [0, 0, 0, 1, 1, 1]
    assert uncertainty.split_labels(np.array([0, 0, 4, 7])).tolist() == [0, 0, 1, 2]
    assert uncertainty.split_labels(np.arange(6)).tolist() == [0, 1, 2, 3, 0, 1]


def test_population_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(11)
    exact = ALANINE.populations()
    plain = surface.SurfaceSettings(replicates=200)
    hits = []
    for _ in range(80):
        found = surface.estimate(ALANINE.chain(4_000, 0.8, generator), 300.0, settings=plain).basins
        assert found is not None
        hits.append([found.interval(n).covers(exact[i]) for i, n in enumerate(found.names)])
    # 95 % intervals, 320 correlated trials
    assert 0.90 <= np.mean(hits) <= 0.99
