"""The trained region: what is inside, what is outside, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.region import TrainedRegion
from mlsim.errors import InputError, MissingError
from tests.unit.test_dataset_frames import make


def rods(lengths: np.ndarray) -> ForceFrames:
    """Three heavy atoms on a line, 0.15 nm and ``lengths`` apart."""
    x = np.zeros((len(lengths), 3, 3))
    x[:, 1, 0] = 0.15
    x[:, 2, 0] = 0.15 + lengths
    return make(len(x), dtype=np.float64, positions=x, forces=x, elements=("C", "C", "O"))


def region(n: int = 4000) -> TrainedRegion:
    rng = np.random.default_rng(1)
    return TrainedRegion.of(rods(rng.uniform(0.3, 0.6, n)), rods(rng.uniform(0.3, 0.6, n)), seed=1)


def test_one_held_out_frame_in_a_thousand_is_outside() -> None:
    found = region()
    fresh = rods(np.random.default_rng(9).uniform(0.3, 0.6, 4000))
    assert (found.distance(fresh.positions) > found.threshold).mean() < 0.01


def test_only_pairs_that_vary_count_and_the_distance_is_in_their_standard_deviations() -> None:
    found = region()
    assert found.pairs.tolist() == [[0, 2], [1, 2]]
    np.testing.assert_allclose(found.scale, 0.3 / np.sqrt(12), rtol=0.03)
    far = found.distance(rods(np.array([0.9])).positions)[0]
    assert far == pytest.approx(0.3 / found.scale[0], rel=0.02)
    assert far > 10 * found.threshold


def test_a_hole_in_the_training_data_is_outside_although_its_mean_is_there() -> None:
    rng = np.random.default_rng(4)
    lengths = np.concatenate([rng.uniform(0.3, 0.35, 500), rng.uniform(0.55, 0.6, 500)])
    found = TrainedRegion.of(rods(lengths), rods(lengths), seed=1)
    assert found.distance(rods(np.array([0.45])).positions)[0] > found.threshold


def test_distances_do_not_change_under_rigid_motion() -> None:
    found, x = region(), rods(np.array([0.2, 0.4])).positions
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    np.testing.assert_allclose(found.distance(x @ turn + 1.0), found.distance(x), atol=1e-12)


def test_the_file_holds_it_all_and_is_small(tmp_path: Path) -> None:
    found = region()
    found.save(tmp_path / "guard.npz")
    again = TrainedRegion.load(tmp_path / "guard.npz")
    x = rods(np.linspace(0.1, 1.0, 20)).positions
    np.testing.assert_array_equal(again.distance(x), found.distance(x))
    assert (again.threshold, again.molecule_digest) == (found.threshold, found.molecule_digest)
    assert (tmp_path / "guard.npz").stat().st_size < 50_000
    (tmp_path / "guard.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a trained region"):
        TrainedRegion.load(tmp_path / "guard.npz")
    with pytest.raises(MissingError):
        TrainedRegion.load(tmp_path / "other.npz")
