"""The virial kernel: against automatic differentiation, its symmetry, and what it sees."""

from __future__ import annotations

import pytest
import torch

from mlsim.samplers import IMQ, RBF, VirialKernel, evaluate, orthogonal, permutations, translations
from mlsim.samplers.kernels.discrepancy import discrepancy
from mlsim.samplers.kernels.radial_kernel import Radial
from mlsim.samplers.targets import by_name, load

TRIO = orthogonal(2, points=3) * permutations((0,) * 3, space=2) * translations(2, points=3)


def springs(positions: torch.Tensor) -> torch.Tensor:
    """A density of three points with anharmonic springs."""
    x = TRIO.shaped(positions)
    offset = x - x.mean(-2, keepdim=True)
    squared = (offset**2).sum((-2, -1))
    return -0.5 * squared - 0.1 * squared**2


def draws(count: int) -> torch.Tensor:
    """Centred particles [count, 6]."""
    x = torch.randn((count, 6), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return TRIO.project(x)


@pytest.mark.parametrize("radial", [RBF(), IMQ()])
def test_stein_kernel_and_velocity_are_what_differentiation_gives(radial: Radial) -> None:
    kernel, h, x = VirialKernel(TRIO, springs, radial), 1.3, draws(5)
    _, scores = evaluate(springs, x)

    def weight(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return radial.value((springs(a) - springs(b)) ** 2, h)

    def pushed(a: torch.Tensor, b: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        """Stein operator in the second argument: s'.(x' kappa) + div'(x' kappa), degrees of freedom counted."""
        b = b.detach().requires_grad_(True)
        value = weight(a, b)
        (slope,) = torch.autograd.grad(value, b, create_graph=True)
        return value * ((TRIO.project(b) * score).sum() + TRIO.freedom) + (slope * TRIO.project(b)).sum()

    velocity = kernel.field(x, x, scores, h, None)
    wanted = torch.stack([sum(pushed(a, b, s) * a for b, s in zip(x, scores, strict=True)) / 5 for a in x])
    torch.testing.assert_close(velocity, wanted.detach())
    matrix = kernel.stein(x, scores, h)
    for i, j in ((0, 1), (3, 2), (4, 4)):
        a = x[i].clone().requires_grad_(True)
        inner = pushed(a, x[j], scores[j])
        (slope,) = torch.autograd.grad(inner, a)
        outer = inner * ((TRIO.project(x[i]) * scores[i]).sum() + TRIO.freedom) + (slope * x[i]).sum()
        assert float(matrix[i, j]) == pytest.approx(float(outer.detach()), rel=1e-9)


def test_matrix_is_positive_semi_definite_and_blind_to_the_orbit() -> None:
    kernel, x = VirialKernel(TRIO, springs), draws(30)
    _, scores = evaluate(springs, x)
    matrix = kernel.stein(x, scores, 1.0)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-9 * matrix.diagonal().mean()
    g = TRIO.draw(torch.Generator().manual_seed(1), torch.float64)
    torch.testing.assert_close(kernel.stein(TRIO.act(g, x), TRIO.act(g, scores), 1.0), matrix)
    field = kernel.field(x, x, scores, 1.0, None)
    turned = kernel.field(TRIO.act(g, x), TRIO.act(g, x), TRIO.act(g, scores), 1.0, None)
    torch.testing.assert_close(turned, TRIO.act(g, field))


def test_discrepancy_vanishes_for_reference_draws_and_sees_energies_that_are_too_narrow() -> None:
    """Every DW-4 configuration pulled half way to its minimum: right basins, wrong energies."""
    target = by_name("dw4")
    x = load("dw4").draw(2000, torch.Generator().manual_seed(0))
    kernel = VirialKernel(target.symmetry, target.log_density)

    def of(points: torch.Tensor) -> float:
        _, scores = evaluate(target.log_density, points)
        return discrepancy(kernel, points, target.symmetry.project(scores), 2.0)

    _, scores = evaluate(target.log_density, x)
    narrow = x + 0.01 * target.symmetry.project(scores)
    assert of(x) < 0.5 * of(x[:100])
    assert of(narrow[:500]) > 3.0 * of(x[:500])
