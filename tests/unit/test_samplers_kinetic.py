"""Kinetic E-SVGD: exact limits, what its Stein velocity is made of, and why its kernel must be smooth."""

from __future__ import annotations

import math

import pytest
import torch

from mlsim.errors import InputError
from mlsim.samplers import (
    ExplicitKernel,
    Fixed,
    SmoothedDistances,
    SortedDistances,
    dihedral,
    kinetic_esvgd,
    orthogonal,
    permutations,
    sample,
    translations,
    trivial,
)
from mlsim.samplers.kernels.pullback import PullbackKernel
from mlsim.samplers.methods.kinetic import cross_field
from mlsim.samplers.sampler_catalog import SamplerSettings, stein_kernel
from mlsim.samplers.targets import by_name

TRIO = orthogonal(2, points=3) * permutations((0,) * 3, space=2) * translations(2, points=3)


def normal(positions: torch.Tensor) -> torch.Tensor:
    """Standard normal log density."""
    return -0.5 * (positions**2).sum(-1)


def particles(count: int, dimension: int = 2, seed: int = 0) -> torch.Tensor:
    """Standard normal particles."""
    return torch.randn((count, dimension), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream(seed: int = 1) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def test_without_a_stein_velocity_the_positions_of_a_harmonic_well_have_no_step_error() -> None:
    """BAOAB samples the position of a harmonic oscillator exactly at any stable step."""
    sampler = kinetic_esvgd(normal, ExplicitKernel(trivial(1)), 1.0, weight=0.0, truncation=math.inf)
    variance = float(sample(sampler, particles(20000, 1), 40, stream()).positions.var())
    assert variance == pytest.approx(1.0, abs=4.0 * math.sqrt(2.0 / 20000))


def test_many_particles_keep_the_target_beside_a_stein_velocity() -> None:
    sampler = kinetic_esvgd(normal, ExplicitKernel(dihedral(2)), 0.3, weight=0.02)
    result = sample(sampler, particles(400), 60, stream())
    torch.testing.assert_close(result.positions.var(0), torch.ones(2, dtype=torch.float64), rtol=0.0, atol=0.3)
    assert 0.8 < result.info.temperature < 1.2
    assert result.info.share > 0.01


def test_no_particle_pushes_itself() -> None:
    """Moving a particle's score changes the Stein velocity of the other half only."""
    kernel, x = ExplicitKernel(dihedral(2)), particles(10)
    before = cross_field(kernel, x, -x, 0.7)
    scores = -x.clone()
    scores[4] *= 3.0
    after = cross_field(kernel, x, scores, 0.7)
    torch.testing.assert_close(after[0::2], before[0::2], rtol=0.0, atol=0.0)
    assert (after[1::2] - before[1::2]).abs().max() > 1e-6


def test_stein_velocity_turns_with_the_particles() -> None:
    kernel = stein_kernel(TRIO, SamplerSettings(method="kinetic-esvgd", kernel="smooth"))
    x = TRIO.project(particles(12, 6))
    g = TRIO.draw(stream(3), torch.float64)
    moved = TRIO.act(g, x)
    field = cross_field(kernel, x, -x, 1.0)
    torch.testing.assert_close(cross_field(kernel, moved, -moved, 1.0), TRIO.act(g, field))


def test_mean_velocity_at_the_target_vanishes_for_smoothed_but_not_for_sorted_distances() -> None:
    """The Stein identity: sorting has kinks that the divergence leaves out."""
    at, sources = TRIO.project(particles(40, 6, seed=1)), TRIO.project(particles(40000, 6, seed=2))

    def left(kernel: PullbackKernel, count: int) -> float:
        return float(kernel.field(at, sources[:count], -sources[:count], 1.0, None).pow(2).mean().sqrt())

    smooth = PullbackKernel(SmoothedDistances(TRIO, (0.7, 1.4, 2.1, 2.8), 0.7))
    kinked = PullbackKernel(SortedDistances(TRIO))
    assert left(smooth, 40000) < 0.25 * left(smooth, 400)
    assert left(kinked, 40000) > 3.0 * left(smooth, 40000)
    assert left(kinked, 40000) > 0.5 * left(kinked, 4000)


def test_clusters_start_from_overlaps_and_stay_finite() -> None:
    target = by_name("lj13")
    kernel = stein_kernel(target.symmetry, SamplerSettings(method="kinetic-esvgd", length=target.length))
    sampler = kinetic_esvgd(target.log_density, kernel, 0.024, 1.0, weight=0.01)
    start = target.start(8, stream(), torch.float64)
    assert target.log_density(start).min() < -1e6
    assert sample(sampler, start, 150, stream()).log_density.min() > -100.0


@pytest.mark.parametrize(("size", "friction"), [(0.0, 1.0), (0.1, -1.0)])
def test_bad_settings_are_refused(size: float, friction: float) -> None:
    with pytest.raises(InputError, match="positive"):
        kinetic_esvgd(normal, ExplicitKernel(trivial(2)), size, friction, Fixed(1.0))
