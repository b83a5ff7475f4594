"""Splits and batches: whole blocks, no frame twice, the same again from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.dataset import batches, split
from mlsim.errors import InputError
from tests.unit.test_dataset_frames import make


def runs(lengths, spacing_ps=0.5):
    run = np.repeat(np.arange(len(lengths)), lengths)
    time = np.concatenate([np.arange(n) * spacing_ps for n in lengths])
    return make(len(run), run=run, time_ps=time)


@given(
    st.lists(st.integers(5, 80), min_size=1, max_size=4),
    st.floats(1.0, 8.0),
    st.integers(0, 10**6),
    st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.4, 0.0), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33)]),
)
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_cover_all_frames_and_never_share_a_block(lengths, block_ps, seed, fractions):
    frames = runs(lengths)
    number = split.block_index(frames, block_ps)
    if number.max() + 1 < 3:
        return
    parts = split.by_block(frames, fractions, block_ps, seed)
    index = [parts.train_index, parts.valid_index, parts.test_index]
    assert sorted(np.concatenate(index)) == list(range(len(frames)))
    blocks = [set(number[i]) for i in index]
    assert sum(len(b) for b in blocks) == len(set.union(*blocks))
    assert all((len(i) > 0) == (f > 0) for i, f in zip(index, fractions, strict=True))


def test_shares_are_met_to_within_a_block():
    frames = runs([2000])
    parts = split.by_block(frames, (0.7, 0.2, 0.1), 10.0, seed=1)
    assert [len(parts.train), len(parts.valid), len(parts.test)] == pytest.approx([1400, 400, 200], abs=20)


def test_blocks_never_straddle_runs():
    frames = runs([30, 30])
    number = split.block_index(frames, 1000.0)
    assert len(set(number)) == 2
    assert np.array_equal(number, frames.run)


def test_a_subset_keeps_the_block_boundaries():
    frames = runs([100])
    number = split.block_index(frames, 5.0)
    part = np.arange(37, 90)
    again = split.block_index(frames.take(part), 5.0)
    assert np.array_equal(np.diff(number[part]) != 0, np.diff(again) != 0)


@given(st.integers(0, 1000), st.floats(0.5, 8.0))
@settings(max_examples=30, deadline=None)
def test_a_gap_keeps_frames_of_different_parts_apart(seed, gap_ps):
    frames = runs([200, 150])
    parts = split.by_block(frames, (0.6, 0.2, 0.2), 10.0, seed, gap_ps=gap_ps)
    label = np.full(len(frames), -1)
    for k, index in enumerate((parts.train_index, parts.valid_index, parts.test_index)):
        label[index] = k
    for run in (0, 1):
        kept = np.flatnonzero((frames.run == run) & (label >= 0))
        changes = np.flatnonzero(np.diff(label[kept]) != 0)
        assert all(frames.time_ps[kept[c + 1]] - frames.time_ps[kept[c]] >= gap_ps - 1e-9 for c in changes)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    frames = runs([500])
    one, two, three = (split.by_block(frames, (0.8, 0.1, 0.1), 5.0, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test_index, two.test_index)
    assert not np.array_equal(one.test_index, three.test_index)


@pytest.mark.parametrize("fractions", [(0.5, 0.4, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_do_not_add_up_are_refused(fractions):
    with pytest.raises(InputError, match="summing to 1"):
        split.by_block(runs([100]), fractions, 5.0, 0)


def test_too_few_blocks_a_bad_length_and_a_bad_gap_are_refused():
    with pytest.raises(InputError, match="at least 3 blocks"):
        split.by_block(runs([100]), (0.8, 0.1, 0.1), 1000.0, 0)
    with pytest.raises(InputError, match="block_ps"):
        split.block_index(runs([10]), 0.0)
    with pytest.raises(InputError, match="gap_ps"):
        split.by_block(runs([100]), (0.8, 0.1, 0.1), 5.0, 0, gap_ps=5.0)


def test_an_empty_part_is_named_when_it_is_asked_for():
    parts = split.by_block(runs([100]), (0.8, 0.2, 0.0), 5.0, 0)
    with pytest.raises(InputError, match="no test frames"):
        _ = parts.test


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 100))
def test_an_epoch_shows_each_frame_at_most_once_in_full_batches(n_frames, batch_size, epoch):
    seen = list(batches.shuffled(n_frames, batch_size, seed=5, epoch=epoch))
    assert len(seen) == batches.count(n_frames, batch_size)
    assert len(set(np.concatenate(seen))) == min(n_frames, len(seen) * batch_size)


def test_epochs_differ_and_an_epoch_can_be_repeated_alone():
    orders = [np.concatenate(list(batches.shuffled(100, 10, 5, epoch))) for epoch in (0, 1, 1)]
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[1], orders[2])


@given(st.integers(1, 100), st.integers(1, 30))
def test_consecutive_slices_cover_all_frames_in_order(n_frames, batch_size):
    covered = np.concatenate([np.arange(n_frames)[s] for s in batches.consecutive(n_frames, batch_size)])
    assert np.array_equal(covered, np.arange(n_frames))
