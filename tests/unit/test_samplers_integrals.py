"""Group integrals: Bessel table, SO(2)/O(2) closed forms, matrix-Fisher quadrature, alignment."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special

from mlsim.samplers.groups.bessel import scaled_bessel
from mlsim.samplers.groups.planar import PlanarOrthogonal, PlanarRotations
from mlsim.samplers.groups.rotations import (
    FiniteRotations,
    Rotations,
    cyclic_rotations,
    dihedral_rotations,
    no_rotations,
)
from mlsim.samplers.groups.spatial import SpatialOrthogonal, SpatialRotations, proper_svd


def random_overlap(space: int, count: int, seed: int, size: float) -> torch.Tensor:
    """Overlaps [s, s, count]."""
    return size * torch.randn((space, space, count), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bessel_table_is_exact_to_1e_12_everywhere() -> None:
    k = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-8, 8, 4001, dtype=torch.float64)])
    scaled, ratio = scaled_bessel(k)
    exact = special.i0e(k.numpy())
    np.testing.assert_allclose(scaled.numpy(), exact, rtol=1e-12)
    np.testing.assert_allclose(ratio.numpy(), special.i1e(k.numpy()) / exact, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("group", [PlanarRotations(), PlanarOrthogonal()], ids=lambda g: g.name)
def test_planar_moments_are_those_of_a_fine_finite_group(group: Rotations) -> None:
    overlap = random_overlap(2, 20, 1, 2.0)
    shift = overlap.abs().sum((0, 1))
    fine = cyclic_rotations(180) if group.name == "SO(2)" else dihedral_rotations(90)
    weight, first = group.moments(overlap, shift)
    wanted_weight, wanted_first = fine.moments(overlap, shift)
    torch.testing.assert_close(weight, wanted_weight, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(first, wanted_first, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 7.0, 300.0])
def test_rank_one_overlap_in_space_gives_the_langevin_function(kappa: float) -> None:
    overlap = torch.zeros((3, 3, 1), dtype=torch.float64)
    overlap[0, 0, 0] = kappa
    weight, first = SpatialRotations().moments(overlap, torch.tensor([kappa], dtype=torch.float64))
    exact = (1.0 - math.exp(-2.0 * kappa)) / (2.0 * kappa)
    slope = exact * (1.0 / math.tanh(kappa) - 1.0 / kappa)
    assert float(weight) == pytest.approx(exact, rel=1e-10)
    assert float(first[0, 0, 0]) == pytest.approx(slope, rel=1e-8)
    assert abs(float(first[1, 1, 0])) < 1e-12


def euler_average(overlap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int exp(tr A^T R) (1, R) dR over SO(3) by a product rule in Euler angles (exact for smooth integrands)."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    angles = 2.0 * np.pi * np.arange(48) / 48
    total, mean = 0.0, np.zeros((3, 3))
    a = overlap[..., 0].numpy()

    def about(axis: int, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        out = np.zeros((*np.shape(cos), 3, 3))
        out[..., axis, axis] = 1.0
        out[..., i, i], out[..., j, j], out[..., i, j], out[..., j, i] = cos, cos, -sin, sin
        return out

    turn = about(2, np.cos(angles), np.sin(angles))
    tilt = about(1, nodes, np.sqrt(1.0 - nodes**2))
    rotations = np.einsum("aij,bjk,ckl->abcil", turn, tilt, turn)
    values = np.exp(np.einsum("ij,abcij->abc", a, rotations)) * (weights / 2.0)[None, :, None] / len(angles) ** 2
    total = values.sum()
    mean = np.einsum("abc,abcij->ij", values, rotations)
    return torch.tensor([total]), torch.tensor(mean)[..., None]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_spatial_moments_are_the_haar_integral(seed: int) -> None:
    overlap = random_overlap(3, 1, seed, 1.0)
    weight, first = euler_average(overlap)
    found_weight, found_first = SpatialRotations().moments(overlap, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(found_weight, weight, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(found_first, first, rtol=1e-8, atol=1e-10)
    mirrored_weight, mirrored_first = euler_average(-overlap)
    both_weight, both_first = SpatialOrthogonal().moments(overlap, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(both_weight, 0.5 * (weight + mirrored_weight), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(both_first, 0.5 * (first - mirrored_first), rtol=1e-8, atol=1e-10)


def test_concentrated_spatial_moments_tend_to_the_aligning_rotation() -> None:
    overlap = random_overlap(3, 5, 3, 1.0) * 3000.0
    reach = SpatialRotations().reach(overlap)
    weight, first = SpatialRotations().moments(overlap, reach)
    torch.testing.assert_close(first / weight, SpatialRotations().best(overlap), rtol=0.0, atol=0.05)


@pytest.mark.parametrize(
    "group",
    [
        PlanarRotations(),
        PlanarOrthogonal(),
        SpatialRotations(),
        SpatialOrthogonal(),
        cyclic_rotations(5),
        no_rotations(3),
    ],
    ids=lambda g: g.name,
)
def test_best_element_reaches_the_largest_trace(group: Rotations) -> None:
    overlap = random_overlap(group.space, 30, 5, 1.0)
    best = group.best(overlap)
    torch.testing.assert_close((best * overlap).sum((0, 1)), group.reach(overlap))
    unit = torch.eye(group.space, dtype=torch.float64)[..., None].expand(-1, -1, 30)
    torch.testing.assert_close(torch.einsum("abm,acm->bcm", best, best), unit)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = group.draw(generator, torch.float64)
        assert ((other[..., None] * overlap).sum((0, 1)) <= group.reach(overlap) + 1e-10).all()
    if isinstance(group, SpatialRotations):
        assert (torch.linalg.det(best.movedim(-1, 0)) > 0).all()


def test_proper_svd_rebuilds_the_matrix_from_rotations() -> None:
    matrix = random_overlap(3, 50, 6, 1.0).movedim(-1, 0)
    left, values, right = proper_svd(matrix)
    torch.testing.assert_close(left @ torch.diag_embed(values) @ right, matrix)
    for factor in (left, right):
        torch.testing.assert_close(torch.linalg.det(factor), torch.ones(50, dtype=torch.float64))


def test_finite_moments_are_plain_means() -> None:
    group = FiniteRotations("pair", (((1.0, 0.0), (0.0, 1.0)), ((-1.0, 0.0), (0.0, -1.0))))
    overlap = torch.eye(2, dtype=torch.float64)[..., None]
    weight, first = group.moments(overlap, torch.zeros(1, dtype=torch.float64))
    assert float(weight) == pytest.approx(math.cosh(2.0))
    assert float(first[0, 0]) == pytest.approx(math.sinh(2.0))
