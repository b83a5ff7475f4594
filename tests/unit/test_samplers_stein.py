"""Stein discrepancy, thinning, weights, stopping."""

from __future__ import annotations

import itertools
from collections import namedtuple

import pytest
import torch

from mlsim.errors import InputError
from mlsim.samplers import (
    IMQ,
    ExplicitKernel,
    Normalised,
    Samples,
    cyclic,
    esvgd,
    hmc,
    mala,
    sample,
    tempering,
    thin,
    trivial,
    warm_start,
    weights,
)
from mlsim.samplers.kernels.bandwidth import Fixed
from mlsim.samplers.kernels.discrepancy import discrepancy, effective_count
from mlsim.samplers.methods.stopping import plateau

PLANE = ExplicitKernel(trivial(2), IMQ())


def draws(count: int, seed: int = 0) -> torch.Tensor:
    """Standard normal particles in the plane."""
    return torch.randn((count, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_discrepancy_falls_with_the_number_of_exact_draws_and_sees_a_wrong_width() -> None:
    small, large = draws(50), draws(800)
    assert discrepancy(PLANE, large, -large, 1.0) < 0.5 * discrepancy(PLANE, small, -small, 1.0)
    wide = 1.5 * large
    assert discrepancy(PLANE, wide, -wide, 1.0) > 3.0 * discrepancy(PLANE, large, -large, 1.0)


def test_discrepancy_of_a_symmetric_kernel_does_not_see_the_orbit() -> None:
    kernel = ExplicitKernel(cyclic(4))
    x = draws(20)
    turned = x.clone()
    turned[::2] = torch.stack([-x[::2, 1], x[::2, 0]], dim=1)
    first = discrepancy(kernel, x, -x, 0.8)
    assert discrepancy(kernel, turned, -turned, 0.8) == pytest.approx(first, rel=1e-10)


def test_thinning_chooses_better_points_than_chance() -> None:
    x = draws(300)
    matrix = PLANE.stein(x, -x, 1.0)
    chosen = thin(matrix, 20)
    best = float(matrix[chosen][:, chosen].mean())
    assert best < 0.3 * float(matrix[:20, :20].mean())


def test_first_thinned_point_and_second_are_greedy() -> None:
    matrix = torch.tensor([[2.0, 0.1, 0.0], [0.1, 1.0, 5.0], [0.0, 5.0, 1.1]])
    assert thin(matrix, 2).tolist() == [1, 1] or thin(matrix, 2).tolist() == [1, 0]
    first, second = thin(matrix, 2).tolist()
    assert first == 1
    assert second == int((0.5 * matrix.diagonal() + matrix[1]).argmin())


def test_thinning_takes_no_more_copies_than_there_are() -> None:
    x = draws(60)
    matrix = PLANE.stein(x, -x, 1.0)
    chosen = thin(matrix, 60, torch.ones(60, dtype=torch.int64))
    assert sorted(chosen.tolist()) == list(range(60))
    with pytest.raises(InputError, match="61 copies"):
        thin(matrix, 61, torch.ones(60, dtype=torch.int64))


def test_weights_are_the_constrained_minimum() -> None:
    generator = torch.Generator().manual_seed(1)
    factor = torch.randn((3, 3), generator=generator, dtype=torch.float64)
    matrix = factor @ factor.mT
    found = weights(matrix)
    assert float(found.sum()) == pytest.approx(1.0)
    assert float(found.min()) >= 0.0
    grid = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    best = min(
        float(w @ matrix @ w)
        for a, b in itertools.product(grid, grid)
        if a + b <= 1.0
        for w in [torch.stack([a, b, 1.0 - a - b])]
    )
    assert float(found @ matrix @ found) <= best + 1e-9


def test_weights_correct_draws_of_the_wrong_density() -> None:
    x = 1.4 * draws(200)
    found = weights(PLANE.stein(x, -x, 1.0))
    weighted = (found[:, None] * x**2).sum(0)
    assert (weighted - 1.0).abs().max() < 0.1
    assert 1.0 < effective_count(found) < 200.0


@pytest.mark.parametrize("matrix", [torch.ones(2, 3), torch.tensor([[float("nan")]]), torch.ones(3)])
def test_a_matrix_that_is_none_is_refused(matrix: torch.Tensor) -> None:
    with pytest.raises(InputError, match="Stein matrix"):
        weights(matrix)
    with pytest.raises(InputError, match="Stein matrix"):
        thin(matrix, 1)


def test_weights_refuse_an_indefinite_matrix() -> None:
    with pytest.raises(InputError, match="positive semi-definite"):
        weights(torch.tensor([[1.0, 3.0], [3.0, 1.0]]))


def test_thinning_needs_a_count() -> None:
    with pytest.raises(InputError, match="at least one"):
        thin(torch.eye(2), 0)


def run(steps: int, every: int) -> Samples:
    kernel = ExplicitKernel(cyclic(4))
    sampler = esvgd(lambda x: -0.5 * (x**2).sum(-1), kernel, Fixed(0.8), Normalised(0.1, 100))
    rule = plateau(kernel, every=every, patience=3)
    return sample(sampler, 2.0 * draws(20), steps, torch.Generator().manual_seed(0), stop=rule)


def test_a_run_stops_at_the_plateau_of_the_discrepancy() -> None:
    result = run(2000, 10)
    assert result.reason.startswith("discrepancy plateau")
    assert result.steps < 500


def test_a_short_run_spends_its_budget() -> None:
    assert run(20, 10).reason == "budget"


def test_plateau_finds_the_scores_inside_a_wrapped_sampler_and_says_if_there_are_none() -> None:
    def normal(x: torch.Tensor) -> torch.Tensor:
        return -0.5 * (x**2).sum(-1)

    generator = torch.Generator().manual_seed(2)
    for sampler in (warm_start(mala(normal, 0.3), 5, hmc(normal, 0.2)), tempering(normal, (1.0, 0.5), size=0.3)):
        result = sample(sampler, draws(20), 2000, generator, stop=plateau(PLANE, every=2, patience=2))
        assert result.reason.startswith("discrepancy plateau")
    state = namedtuple("State", ["positions"])(draws(3))
    with pytest.raises(InputError, match="keeps scores, got a state with positions"):
        plateau(PLANE, every=1)(state)


def test_plateau_refuses_nonsense() -> None:
    with pytest.raises(InputError, match="plateau"):
        plateau(PLANE, every=0)
