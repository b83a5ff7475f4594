"""Multi-scale denoising: the exact minimum for a Gaussian, doors, resume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlsim.errors import SettingsError
from mlsim.fitting.density.multiscale import MultiscaleDenoising
from mlsim.fitting.density.problem import Problem
from mlsim.samplers import trivial


class Point(nn.Module):
    """u = k |x|^2 / 2: data that are one point at the origin want k = 1 / sigma_0^2 at every noise level."""

    def __init__(self, stiffness: float) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(stiffness, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """u [B]."""
        return 0.5 * self.stiffness * x.square().sum(-1)


def objective(stiffness: float, least: float = 0.1, most: float = 2.0) -> MultiscaleDenoising:
    """Forty copies of the origin in the plane."""
    model = Point(stiffness)
    data = torch.zeros((40, 2), dtype=torch.float64)
    problem = Problem(model, model, trivial(2), data, data, lambda count, generator: data[:count], 1.0)
    return MultiscaleDenoising(problem, least, most, 3)


def test_squared_distance_to_the_data_over_two_sigma_squared_has_no_loss() -> None:
    exact = objective(1.0 / 0.1**2)
    assert float(exact.loss(np.arange(40)).detach()) < 1e-20
    assert exact.validate() < 1e-20


def test_no_score_has_a_loss_of_one_and_twice_the_score_too() -> None:
    for stiffness in (0.0, 2.0 / 0.1**2):
        losses = [float(objective(stiffness).loss(np.arange(40)).detach()) for _ in range(2)]
        assert losses[0] == losses[1]
        assert losses[0] == pytest.approx(1.0, abs=4.0 / math.sqrt(40.0))


def test_loss_is_differentiable_in_the_parameters_and_its_gradient_points_to_the_minimum() -> None:
    low, high = objective(50.0), objective(150.0)
    for trained, sign in ((low, -1.0), (high, 1.0)):
        trained.loss(np.arange(40)).backward()
        gradient = trained.problem.model.get_parameter("stiffness").grad
        assert gradient is not None
        assert math.copysign(1.0, float(gradient)) == sign


def test_steps_are_remembered() -> None:
    first = objective(30.0)
    first.loss(np.arange(10))
    second = objective(30.0)
    second.recall(first.memory())
    assert float(first.loss(np.arange(10)).detach()) == float(second.loss(np.arange(10)).detach())


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)])
def test_noise_levels_out_of_order_are_refused(least: float, most: float) -> None:
    with pytest.raises(SettingsError, match="least"):
        objective(1.0, least, most)
