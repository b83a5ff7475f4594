"""Stein kernels: the orbit identity, equivariance of a single particle, Stein matrices, bandwidths."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.errors import InputError
from mlsim.samplers import (
    IMQ,
    RBF,
    AlignmentKernel,
    ExplicitKernel,
    Fixed,
    IntegratedKernel,
    KSDAdaptive,
    Median,
    PullbackKernel,
    SmoothedDistances,
    SortedDistances,
    Symmetry,
    cyclic,
    dihedral,
    kernel_for,
    orthogonal,
    permutations,
    special_orthogonal,
    translations,
    trivial,
)
from mlsim.samplers.kernels.features import Features
from mlsim.samplers.kernels.radial_kernel import Radial
from mlsim.samplers.kernels.stein_kernel import SteinKernel

FINITE = (
    cyclic(4),
    dihedral(3),
    permutations((0, 0, 1), space=2) * cyclic(2, points=3) * translations(2, points=3),
    permutations((0, 0, 0), space=3),
)
PLANE = orthogonal(2, points=4) * permutations((0, 0, 0, 1), space=2) * translations(2, points=4)
SPACE = special_orthogonal(3, points=3) * permutations((0, 0, 1), space=3) * translations(3, points=3)
CLUSTER = orthogonal(3, points=5) * permutations((0, 0, 0, 1, 1), space=3) * translations(3, points=5)
EQUIVARIANT: tuple[SteinKernel, ...] = (
    *(ExplicitKernel(symmetry) for symmetry in FINITE),
    ExplicitKernel(cyclic(4), IMQ()),
    IntegratedKernel(special_orthogonal(2)),
    IntegratedKernel(PLANE),
    IntegratedKernel(PLANE, IMQ()),
    IntegratedKernel(SPACE),
    IntegratedKernel(orthogonal(3)),
    AlignmentKernel(PLANE),
    AlignmentKernel(CLUSTER),
    AlignmentKernel(SPACE, IMQ()),
    PullbackKernel(SortedDistances(CLUSTER)),
    PullbackKernel(SmoothedDistances(CLUSTER, (0.5, 1.0, 1.5, 2.0, 2.5, 3.0), 0.4)),
)
few = settings(max_examples=5, deadline=None)


def cloud(symmetry: Symmetry, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random particles and scores of a symmetry."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((2, count, symmetry.dimension), generator=generator, dtype=torch.float64)
    return symmetry.project(x[0]), symmetry.project(x[1])


@pytest.mark.parametrize("radial", [RBF(), IMQ()], ids=lambda r: r.name)
@pytest.mark.parametrize("symmetry", FINITE, ids=lambda s: s.name)
@given(seed=st.integers(0, 2**31))
@few
def test_field_is_that_of_plain_svgd_on_all_orbit_copies(symmetry: Symmetry, radial: Radial, seed: int) -> None:
    x, s = cloud(symmetry, 6, seed)
    elements = symmetry.elements(torch.float64)
    copies = torch.cat([symmetry.act(g, x) for g in elements])
    scores = torch.cat([symmetry.act(g, s) for g in elements])
    plain = ExplicitKernel(trivial(symmetry.dimension), radial).field(copies, copies, scores, 0.8, None)
    found = ExplicitKernel(symmetry, radial).field(x, x, s, 0.8, None)
    wanted = torch.cat([symmetry.act(g, found) for g in elements])
    torch.testing.assert_close(plain, wanted, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("kernel", EQUIVARIANT, ids=lambda k: k.name)
@given(seed=st.integers(0, 2**31))
@few
def test_moving_one_particle_along_its_orbit_turns_only_its_own_field(kernel: SteinKernel, seed: int) -> None:
    symmetry = kernel.symmetry
    x, s = cloud(symmetry, 5, seed)
    g = symmetry.draw(torch.Generator().manual_seed(seed), torch.float64)
    moved, turned = x.clone(), s.clone()
    moved[2], turned[2] = symmetry.act(g, x[2]), symmetry.act(g, s[2])
    before = kernel.field(x, x, s, 0.9, kernel.prepare(x, None))
    after = kernel.field(moved, moved, turned, 0.9, kernel.prepare(moved, None))
    wanted = before.clone()
    wanted[2] = symmetry.act(g, before[2])
    torch.testing.assert_close(after, wanted, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("symmetry", FINITE, ids=lambda s: s.name)
def test_integrated_kernel_of_a_finite_group_is_the_explicit_sum(symmetry: Symmetry) -> None:
    x, s = cloud(symmetry, 7, 1)
    explicit, integrated = ExplicitKernel(symmetry), IntegratedKernel(symmetry)
    torch.testing.assert_close(integrated.field(x, x, s, 0.9, None), explicit.field(x, x, s, 0.9, None))
    torch.testing.assert_close(integrated.stein(x, s, 0.9), explicit.stein(x, s, 0.9))
    torch.testing.assert_close(integrated.squared_distances(x), explicit.squared_distances(x))
    assert integrated.diagonal(x, 0.9) == pytest.approx(explicit.diagonal(x, 0.9))


@pytest.mark.parametrize("kernel", EQUIVARIANT, ids=lambda k: k.name)
def test_field_at_other_places_agrees_with_the_field_at_the_particles(kernel: SteinKernel) -> None:
    x, s = cloud(kernel.symmetry, 6, 4)
    own = kernel.field(x, x, s, 0.9, None)
    torch.testing.assert_close(kernel.field(x[1:4].clone(), x, s, 0.9, None), own[1:4], rtol=1e-9, atol=1e-12)


def test_many_particles_in_blocks_give_the_field_of_all_pairs() -> None:
    x, s = cloud(PLANE, 70, 9)
    kernel = IntegratedKernel(PLANE)
    torch.testing.assert_close(kernel.field(x, x, s, 0.9, None), kernel.field(x.clone(), x, s, 0.9, None))


STEIN = tuple(kernel for kernel in EQUIVARIANT if not isinstance(kernel, AlignmentKernel))


@pytest.mark.parametrize("kernel", STEIN, ids=lambda k: k.name)
def test_stein_matrix_is_symmetric_and_positive_semi_definite(kernel: SteinKernel) -> None:
    x, s = cloud(kernel.symmetry, 12, 5)
    matrix = kernel.stein(x, s, 0.9)
    torch.testing.assert_close(matrix, matrix.mT, rtol=1e-8, atol=1e-10)
    values = torch.linalg.eigvalsh(0.5 * (matrix + matrix.mT))
    assert values.min() > -1e-8 * values.max()


@pytest.mark.parametrize("kernel", STEIN, ids=lambda k: k.name)
def test_stein_matrix_is_the_stein_operator_of_the_field(kernel: SteinKernel) -> None:
    """u(x, y) = s(x) . Phi(x; y) + div_x Phi(x; y), the divergence by central differences."""
    symmetry = kernel.symmetry
    x, s = cloud(symmetry, 2, 6)
    there, pull = x[1:], s[1:]
    directions = torch.linalg.svd(symmetry.project(torch.eye(symmetry.dimension, dtype=torch.float64)))[2]
    directions = directions[: symmetry.freedom]
    delta = 1e-5
    probes = torch.cat([x[:1] + delta * directions, x[:1] - delta * directions])
    values = kernel.field(probes, there, pull, 0.9, None)
    half = len(directions)
    divergence = ((values[:half] - values[half:]) * directions).sum() / (2.0 * delta)
    wanted = (s[0] * kernel.field(x[:1], there, pull, 0.9, None)[0]).sum() + divergence
    torch.testing.assert_close(kernel.stein(x, s, 0.9)[0, 1], wanted, rtol=1e-5, atol=1e-7)


def test_repulsion_is_counted_once() -> None:
    """Two particles without score: each is pushed by half of grad_y k, not by all of it."""
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    push = ExplicitKernel(trivial(1)).field(x, x, torch.zeros_like(x), 1.0, None)
    assert float(push[1]) == pytest.approx(0.5 * math.exp(-0.5))


@pytest.mark.parametrize(
    "features", [SortedDistances(CLUSTER), SmoothedDistances(CLUSTER, (0.8, 1.6, 2.4), 0.5)], ids=["sorted", "smooth"]
)
def test_features_have_the_jacobian_and_laplacian_of_their_values(features: Features) -> None:
    x, _ = cloud(CLUSTER, 1, 8)
    described = features.describe(x)
    jacobian, laplacian = torch.zeros_like(described.jacobian[0]), torch.zeros_like(described.laplacian[0])
    for i in range(CLUSTER.dimension):
        step = torch.zeros_like(x)
        step[0, i] = 1e-4
        up, down = features.describe(x + step), features.describe(x - step)
        jacobian[:, i] = (up.values - down.values)[0] / 2e-4
        laplacian += (up.jacobian - down.jacobian)[0, :, i] / 2e-4
    torch.testing.assert_close(described.jacobian[0], jacobian, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(described.laplacian[0], laplacian, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("radial", [RBF(), IMQ()], ids=lambda r: r.name)
def test_radial_derivatives_are_those_of_the_value(radial: Radial) -> None:
    q = torch.linspace(0.1, 5.0, 20, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(radial.value(q, 0.8).sum(), q, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), q)
    torch.testing.assert_close(radial.slope(q, 0.8), slope)
    torch.testing.assert_close(radial.curvature(q, 0.8), curvature)


def test_imq_is_close_to_its_mixture_of_gaussians() -> None:
    q = torch.linspace(0.0, 30.0, 100, dtype=torch.float64)
    mixture = sum(share * RBF().value(q, width) for share, width in IMQ().scales(1.0))
    torch.testing.assert_close(IMQ().value(q, 1.0), mixture, rtol=0.0, atol=0.03)


def test_alignment_finds_the_orbit_copy() -> None:
    symmetry = orthogonal(3, points=7) * permutations((0,) * 5 + (1,) * 2, space=3) * translations(3, points=7)
    x, _ = cloud(symmetry, 6, 10)
    generator = torch.Generator().manual_seed(2)
    copies = torch.stack([symmetry.act(symmetry.draw(generator, torch.float64), row) for row in x])
    distances = AlignmentKernel(symmetry).squared_distances(torch.cat([x, copies]))
    assert distances.diagonal(offset=6).max() < 1e-10


def test_alignment_is_cached_between_refreshes() -> None:
    kernel = AlignmentKernel(CLUSTER, refresh=3)
    x, _ = cloud(CLUSTER, 4, 11)
    first = kernel.prepare(x, None)
    second = kernel.prepare(x + 0.01, first)
    assert second.permutations is first.permutations
    assert kernel.prepare(x, kernel.prepare(x, second)).age == 0


def test_alignment_kernel_refuses_a_stein_discrepancy() -> None:
    x, s = cloud(CLUSTER, 3, 12)
    with pytest.raises(InputError, match="not positive semi-definite"):
        AlignmentKernel(CLUSTER).stein(x, s, 1.0)


def test_kernel_is_chosen_by_the_size_of_the_group() -> None:
    assert isinstance(kernel_for(cyclic(4)), ExplicitKernel)
    assert isinstance(kernel_for(PLANE), IntegratedKernel)
    assert isinstance(kernel_for(permutations((0,) * 13, space=3)), AlignmentKernel)


def test_bandwidth_rules() -> None:
    kernel = ExplicitKernel(trivial(2))
    x, s = cloud(trivial(2), 30, 13)
    distances = torch.pdist(x) ** 2
    wanted = math.sqrt(float(distances.median()) / (2.0 * math.log(31.0)))
    assert Fixed(0.3).choose(kernel, x, s, 0.0, 0) == 0.3
    assert Median().choose(kernel, x, s, 0.0, 0) == pytest.approx(wanted, rel=1e-6)
    assert Median(every=10).choose(kernel, x, s, 5.0, 3) == 5.0
    adaptive = KSDAdaptive()
    best = adaptive.choose(kernel, x, s, 0.0, 0)
    found = float(kernel.stein(x, s, best).mean())
    assert all(found >= float(kernel.stein(x, s, wanted * factor).mean()) - 1e-12 for factor in adaptive.factors)
    assert adaptive.choose(kernel, x, s, 0.7, 1) == 0.7
    assert Median().choose(kernel, x[:1], s[:1], 0.0, 0) == 1.0
