"""The prior of an energy-based model: exact values, smooth edges, equal points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlsim.models.atom_pairs import half_pairs, pair_distances, pair_vectors
from mlsim.models.ebm.prior import Bounds, PriorEnergy, Spring, bounds_from, equal_points, springs_from


def energy(prior: PriorEnergy, points: list[list[float]]) -> float:
    x = torch.tensor([points], dtype=torch.float64)
    first, second = half_pairs(x.shape[1], x.device)
    return float(prior(x, pair_distances(pair_vectors(x, first, second))))


def test_trap_spring_cage_and_core_have_their_closed_forms() -> None:
    pair = [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    spring = Spring(first=0, second=1, length=1.5, strength=8.0)
    assert energy(PriorEnergy(3.0, 0.0, 0.0, ()), pair) == pytest.approx(3.0)
    assert energy(PriorEnergy(0.0, 0.0, 0.0, (spring,)), pair) == pytest.approx(0.5 * 8.0 * 0.25)
    assert energy(PriorEnergy(0.0, 0.8, 0.0, ()), pair) == pytest.approx(2 * 1000.0 * 0.25**3)
    assert energy(PriorEnergy(0.0, 0.0, 4.0, ()), pair) == pytest.approx(1000.0 * 0.5**3)
    assert energy(PriorEnergy(0.0, 0.0, 0.0, ()), pair) == 0.0


def test_a_pair_that_has_a_spring_feels_no_core() -> None:
    spring = Spring(first=0, second=1, length=2.0, strength=8.0)
    assert energy(PriorEnergy(0.0, 0.0, 4.0, (spring,)), [[0.0, 0.0], [2.0, 0.0]]) == pytest.approx(0.0, abs=1e-9)


def test_bounds_cost_nothing_inside_and_a_cubic_number_of_widths_outside() -> None:
    prior = PriorEnergy(0.0, 0.0, 0.0, (), [Bounds(first=1, second=0, least=1.0, most=2.0)])
    for distance, expected in ((0.8, 8.0), (1.0, 0.0), (1.7, 0.0), (2.0, 0.0), (2.3, 27.0)):
        assert energy(prior, [[0.0, 0.0], [distance, 0.0]]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "prior",
    [
        PriorEnergy(0.0, 0.5, 0.0, ()),
        PriorEnergy(0.0, 0.0, 1.0, ()),
        PriorEnergy(0.0, 0.0, 0.0, (), [Bounds(first=0, second=1, least=0.5, most=1.0)]),
        PriorEnergy(0.0, 0.0, 0.0, (), [Bounds(first=0, second=1, least=1.0, most=1.5)]),
    ],
)
def test_walls_start_without_a_jump_in_energy_force_or_curvature(prior: PriorEnergy) -> None:
    values = [energy(prior, [[0.0, 0.0], [1.0 + h, 0.0]]) for h in (-2e-3, -1e-3, 0.0, 1e-3, 2e-3)]
    slopes, curvatures = np.diff(values) / 1e-3, np.diff(values, 2) / 1e-6
    assert np.abs(values).max() < 1e-4
    assert np.abs(slopes).max() < 0.05
    assert np.abs(curvatures).max() < 20.0  # third derivative 6000: at most 2e-3 from the edge


def test_points_of_one_kind_are_equal_unless_springs_tell_them_apart() -> None:
    kinds = ["C", "H", "H", "C", "H"]
    assert equal_points(kinds, ()) == (0, 1, 1, 0, 1)
    bonds = [(0, 1), (0, 2), (1, 2), (0, 3), (3, 4)]
    springs = [Spring(first=i, second=j, length=1.0, strength=1.0) for i, j in bonds]
    labels = equal_points(kinds, springs)
    assert labels[1] == labels[2]
    assert len(set(labels)) == 4


def test_springs_have_the_mean_and_inverse_variance_of_the_data_pooled_over_equal_pairs() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((4000, 3, 3))
    x[:, 1, 0] = 1.0 + 0.1 * rng.normal(size=4000)
    x[:, 2, 1] = 1.2 + 0.1 * rng.normal(size=4000)
    first, second = springs_from(x, np.array([[0, 1], [0, 2]]), ["C", "H", "H"], 0.01)
    assert (first.length, first.strength) == (second.length, second.strength)
    assert first.length == pytest.approx(1.1, abs=0.01)
    assert first.strength == pytest.approx(1 / 0.02, rel=0.05)  # 0.1^2 within, 0.1^2 between
    apart, _ = springs_from(x, np.array([[0, 1], [0, 2]]), ["C", "H", "O"], 0.01)
    assert apart.strength == pytest.approx(100.0, rel=0.1)


def test_bounds_are_the_extremes_of_the_data_over_equal_pairs() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4, 3))
    pairs = np.array([[0, 1], [0, 2], [0, 3]])
    first, second, third = bounds_from(x, pairs, ["C", "H", "H", "O"])
    distance = np.linalg.norm(x[:, :1] - x[:, 1:], axis=-1)
    assert (first.least, first.most) == (second.least, second.most) == (distance[:, :2].min(), distance[:, :2].max())
    assert (third.first, third.second, third.least) == (0, 3, distance[:, 2].min())
    prior = PriorEnergy(0.0, 0.0, 0.0, (), (first, second, third))
    assert all(energy(prior, frame.tolist()) == pytest.approx(0.0, abs=1e-9) for frame in x)


def test_a_distance_that_does_not_vary_gets_the_floor() -> None:
    x = np.zeros((10, 2, 3))
    x[:, 1, 0] = 1.0
    (spring,) = springs_from(x, np.array([[0, 1]]), ["a", "b"], 0.05)
    assert spring.strength == pytest.approx(400.0)
