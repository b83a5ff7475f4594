"""Choices that cover a space."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.dataset.spread import farthest, on_circle, tour
from mlsim.errors import InputError


def test_a_choice_covers_rare_places_as_well_as_crowded_ones() -> None:
    rng = np.random.default_rng(1)
    crowd, rare = rng.normal(scale=0.1, size=(5000, 2)), np.array([[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0], [0.0, -5.0]])
    chosen = farthest(np.concatenate([crowd, rare]), 5, seed=3)
    assert {5000, 5001, 5002, 5003} < set(chosen.tolist())


def test_a_longer_choice_begins_with_the_shorter_one_and_depends_on_the_seed() -> None:
    points = np.random.default_rng(2).uniform(size=(300, 3))
    np.testing.assert_array_equal(farthest(points, 40, 1)[:10], farthest(points, 10, 1))
    assert farthest(points, 10, 1)[0] != farthest(points, 10, 2)[0]


def test_all_points_can_be_chosen_once_each_even_if_equal() -> None:
    assert sorted(farthest(np.zeros((6, 2)), 6, 1)) == list(range(6))
    with pytest.raises(InputError, match="between 1 and 6"):
        farthest(np.zeros((6, 2)), 7, 1)


def test_a_tour_of_points_on_a_line_goes_along_it() -> None:
    order = tour(np.array([[0.0], [3.0], [1.0], [2.0]]))
    assert order.tolist() == [0, 2, 3, 1]


def test_angles_near_pi_and_minus_pi_are_neighbours() -> None:
    points = on_circle(np.array([[np.pi - 0.01], [-np.pi + 0.01], [0.0]]))
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(0.02, rel=1e-3)
    assert np.linalg.norm(points[0] - points[2]) > 1.9
