"""Samplers one by one: exact statements, limits, settings and doors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError

from mlsim.errors import InputError, SettingsError, UnphysicalError
from mlsim.samplers import (
    ExplicitKernel,
    Median,
    Plain,
    PullbackKernel,
    cyclic,
    hmc,
    ladder,
    mala,
    metropolised_esvgd,
    noisy_esvgd,
    orthogonal,
    permutations,
    point_group,
    sample,
    svgd,
    tempering,
    translations,
    trivial,
    ula,
)
from mlsim.samplers.kernels.alignment import AlignmentKernel
from mlsim.samplers.kernels.integrated import IntegratedKernel
from mlsim.samplers.methods.langevin import truncate
from mlsim.samplers.methods.mala import adapt, transition
from mlsim.samplers.methods.schedule import constant, cyclical, geometric, linear
from mlsim.samplers.methods.svgd import Normalised
from mlsim.samplers.sampler_catalog import METHODS, SamplerSettings, create, stein_kernel


def normal(positions: torch.Tensor) -> torch.Tensor:
    """Standard normal log density."""
    return -0.5 * (positions**2).sum(-1)


def particles(count: int, dimension: int = 2, seed: int = 0) -> torch.Tensor:
    """Standard normal particles."""
    return torch.randn((count, dimension), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream(seed: int = 1) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def test_svgd_gives_the_normal_its_variance() -> None:
    start = 6.0 * torch.rand((200, 1), generator=stream(2), dtype=torch.float64) - 3.0
    result = sample(svgd(normal, 1, Median(), Plain(0.5)), start, 2000, stream())
    assert 0.95 <= float(result.positions.var(unbiased=False)) <= 1.02


def test_one_particle_of_svgd_climbs_to_the_mode() -> None:
    result = sample(svgd(normal, 2, rule=Plain(0.1)), particles(1), 300, stream())
    assert result.positions.abs().max() < 1e-6


def test_truncation_keeps_directions_and_caps_lengths() -> None:
    v = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(truncate(v, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_langevin_acceptance_is_one_for_a_proposal_in_detailed_balance() -> None:
    """With eps -> 0 the ratio tends to 0 in the log; with the roles swapped it changes sign exactly."""
    x, y = particles(5, seed=1), particles(5, seed=2)
    eps = torch.full((5,), 0.3, dtype=torch.float64)
    forth = transition(x, normal(x), -0.3 * x, y, normal(y), -0.3 * y, eps)
    back = transition(y, normal(y), -0.3 * y, x, normal(x), -0.3 * x, eps)
    torch.testing.assert_close(forth, -back)


def test_a_proposal_with_nan_is_rejected() -> None:
    x = particles(2)
    bad = torch.full((2,), float("nan"), dtype=torch.float64)
    ratio = transition(x, normal(x), -x, x, bad, -x, torch.ones(2, dtype=torch.float64))
    assert (ratio == -torch.inf).all()


def test_step_sizes_grow_when_too_much_is_accepted_and_settle() -> None:
    size = torch.zeros(1)
    assert float(adapt(size, torch.ones(1), 0, 0.574)) == pytest.approx(0.426)
    assert float(adapt(size, torch.ones(1), 999, 0.574)) < 0.01


def test_truncated_mala_leaves_a_wall_where_textbook_mala_is_stuck() -> None:
    def quartic(x: torch.Tensor) -> torch.Tensor:
        return -((x**2).sum(-1) ** 2)

    start = 20.0 + particles(20)
    freed = sample(mala(quartic, 0.1), start, 300, stream()).positions
    stuck = sample(mala(quartic, 0.1, truncation=float("inf"), goal=0.0), start, 300, stream()).positions
    assert freed.norm(dim=1).max() < 3.0
    assert stuck.norm(dim=1).min() > 20.0


def test_ula_bias_shrinks_with_the_step() -> None:
    def variance(size: float) -> float:
        return float(sample(ula(normal, size, truncation=float("inf")), particles(4000), 60, stream()).positions.var())

    # Exact for a normal: 1 / (1 - eps / 2).
    assert variance(0.5) == pytest.approx(1.0 / 0.75, rel=0.05)
    assert variance(0.1) == pytest.approx(1.0 / 0.95, rel=0.05)


def test_hmc_nearly_conserves_energy_for_small_steps() -> None:
    sampler = hmc(normal, 0.01, leaps=20)
    _, info = sampler.step(sampler.init(particles(50), stream()), stream())
    assert info.acceptance > 0.999
    assert info.gradients == 20


def test_tempering_fills_the_second_basin_where_mala_does_not() -> None:
    def basins(x: torch.Tensor) -> torch.Tensor:
        return torch.logaddexp(-0.5 * ((x[..., 0] - 6.0) ** 2), -0.5 * ((x[..., 0] + 6.0) ** 2))

    start = 6.0 + particles(60, 1)
    local = sample(mala(basins, 0.5), start, 600, stream()).positions
    tempered = sample(tempering(basins, ladder(4, 0.05), size=0.5), start, 2400, stream()).positions
    assert (local < 0).double().mean() < 0.02
    assert 0.25 < (tempered < 0).double().mean() < 0.75


def test_projection_keeps_the_centre_of_mass() -> None:
    symmetry = translations(2, points=3)

    def springs(x: torch.Tensor) -> torch.Tensor:
        points = symmetry.shaped(x)
        return -((points - points.mean(-2, keepdim=True)) ** 2).sum((-2, -1))

    for method in METHODS:
        sampler = create(springs, symmetry, SamplerSettings(method=method, gradients=40))
        x = sample(sampler, particles(8, 6), 40, stream()).positions
        assert symmetry.shaped(x).mean(1).abs().max() < 1e-12, method


def test_schedules_end_at_one() -> None:
    for schedule in (constant(), linear(10, 0.2), geometric(10, 0.2), cyclical(10, 0.2, 2)):
        assert schedule(10) == 1.0
        assert schedule(99) == 1.0
    assert linear(10, 0.2)(5) == pytest.approx(0.6)
    assert geometric(10, 0.01)(5) == pytest.approx(0.1)
    assert cyclical(10, 0.2, 2)(5) == pytest.approx(0.2)


def test_normalised_steps_are_equivariant_and_shrink() -> None:
    rule = Normalised(0.1, 10)
    v = particles(5)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    move, moment = rule.move(v, torch.zeros(5, dtype=torch.float64), 0)
    turned, _ = rule.move(v @ turn.mT, torch.zeros(5, dtype=torch.float64), 0)
    torch.testing.assert_close(turned, move @ turn.mT)
    torch.testing.assert_close(move.norm(dim=1), torch.full((5,), 0.1 * math.sqrt(2.0), dtype=torch.float64))
    late, _ = rule.move(v, moment, 9)
    assert late.norm() < move.norm()


def test_diagnostics_are_recorded_with_the_trajectory() -> None:
    result = sample(mala(normal, 0.3), particles(20), 41, stream(), record_every=10)
    assert len(result.diagnostic("acceptance")) == len(result.trajectory) == 4
    assert all(0.0 < value <= 1.0 for value in result.diagnostic("acceptance"))
    with pytest.raises(InputError, match="expected one of gradients, acceptance, size"):
        result.diagnostic("temperature")
    assert sample(mala(normal, 0.3), particles(4), 5, stream()).diagnostic("anything") == ()


def test_any_point_group_is_a_symmetry() -> None:
    turn = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    swap = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    cube = point_group("Oh", torch.stack([turn, flip, swap]))
    assert cube.order == 48
    kernel, x = ExplicitKernel(cube), particles(6, 3)
    g = cube.draw(stream(2), torch.float64)
    moved = kernel.field(cube.act(g, x), cube.act(g, x), cube.act(g, -x), 0.8, None)
    torch.testing.assert_close(moved, cube.act(g, kernel.field(x, x, -x, 0.8, None)))


def test_auto_kernel_follows_the_group() -> None:
    cluster = orthogonal(3, points=13) * permutations((0,) * 13, space=3) * translations(3, points=13)
    plane = orthogonal(2, points=4) * permutations((0,) * 4, space=2) * translations(2, points=4)
    auto = SamplerSettings(method="esvgd")
    assert isinstance(stein_kernel(cluster, auto), PullbackKernel)
    assert isinstance(stein_kernel(plane, auto), IntegratedKernel)
    assert isinstance(stein_kernel(cyclic(4), auto), ExplicitKernel)
    assert isinstance(stein_kernel(plane, SamplerSettings(method="esvgd", kernel="alignment")), AlignmentKernel)
    with pytest.raises(InputError, match="pull-back"):
        stein_kernel(cyclic(4), SamplerSettings(method="esvgd", kernel="pullback"))


def test_unknown_sampler_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="malla"):
        SamplerSettings.parse({"method": "malla"})
    with pytest.raises(ValidationError):
        SamplerSettings(method="mala", gradients=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ula(normal, 0.0), "positive"),
        (lambda: mala(normal, -1.0), "positive"),
        (lambda: hmc(normal, 0.0), "positive"),
        (lambda: hmc(normal, leaps=0), "leapfrog"),
        (lambda: tempering(normal, (0.5, 0.1)), "inverse temperatures"),
        (lambda: tempering(normal, (1.0, 1.0)), "inverse temperatures"),
        (lambda: ladder(0, 0.5), "ladder"),
        (lambda: ladder(3, 2.0), "ladder"),
        (lambda: noisy_esvgd(normal, ExplicitKernel(trivial(2)), 0.0), "positive"),
        (lambda: noisy_esvgd(normal, ExplicitKernel(trivial(2)), 0.1, diffusion=0.0), "positive"),
        (lambda: metropolised_esvgd(normal, ExplicitKernel(trivial(2)), size=0.0), "positive"),
        (lambda: linear(0, 0.5), "at least one step"),
        (lambda: geometric(5, 0.0), "start"),
        (lambda: cyclical(5, 0.5, 0), "cycle"),
        (lambda: sample(mala(normal), particles(2), 0, stream()), "budget"),
        (lambda: sample(mala(normal), particles(2)[0], 5, stream()), "particles, d"),
        (lambda: sample(mala(normal), particles(2).long(), 5, stream()), "floating"),
        (lambda: sample(mala(normal), [[0.0]], 5, stream()), "list"),
        (
            lambda: sample(metropolised_esvgd(normal, ExplicitKernel(trivial(2))), particles(3), 5, stream()),
            "two halves",
        ),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_run_that_explodes_is_an_error() -> None:
    def inverted(x: torch.Tensor) -> torch.Tensor:
        return (x**4).sum(-1)

    with pytest.raises(UnphysicalError, match="smaller step"):
        sample(ula(inverted, 1.0, truncation=float("inf")), 1.0 + particles(3).abs(), 50, stream())


def test_a_target_that_is_nan_at_the_start_is_refused() -> None:
    with pytest.raises(UnphysicalError, match="NaN"):
        sample(mala(lambda x: torch.log(x[..., 0])), -1.0 - particles(3).abs(), 5, stream())
