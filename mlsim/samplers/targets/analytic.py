"""Targets with exact samplers: Gaussians, the C4 mixture, concentric circles and spheres.

    gaussian    N(0, 1) in d dimensions
    c4          four Gaussians at radius 3, covariance diag(1, 1/5) in the frame of each, rotated by quarter turns
    circles     p(x) = mixture(|x|) with radii 4, 8 and width 0.5     (density in the plane, no 1/r factor)
    spheres     the same in space, radii 4, 9 and width 0.3

For circles and spheres the radius has density r^(s-1) mixture(r) and is drawn by inverting its cumulative sum on a
grid of 40,001 radii; directions are uniform. One third of the mass of ``circles`` lies inside r < 6.

Symbols: r ``radius``; s ``space``; mixture = 1/2 sum_k N(r; r_k, w).
Reference: Jaini, Holdijk & Welling 2021, section 6 (these targets; there drawn with r ~ mixture, which is another
density).
"""

from __future__ import annotations

import math

import torch

from mlsim.errors import InputError
from mlsim.samplers.groups.symmetry import cyclic, orthogonal, trivial
from mlsim.samplers.targets.target import Draw, Target, normal_start, uniform_start

_TINY = 1e-12
_C4_RADIUS = 3.0
_C4_VARIANCES = (1.0, 0.2)
_RADII = {"circles": ((4.0, 8.0), 0.5), "spheres": ((4.0, 9.0), 0.3)}


def gaussian(dimension: int) -> Target:
    """Standard normal in ``dimension`` dimensions (treated as without symmetry)."""
    if dimension < 1:
        raise InputError(f"gaussian: expected at least one dimension, got {dimension}")

    def draw(count: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn((count, dimension), generator=generator, dtype=dtype)

    symmetry = trivial(dimension)
    start = uniform_start(symmetry, 3.0)
    return Target(f"gaussian{dimension}", lambda x: -0.5 * (x**2).sum(-1), symmetry, start, draw, False, 1.0)


def c4_log_density(positions: torch.Tensor) -> torch.Tensor:
    """Normalised log density of the C4 mixture, [..., 2] -> [...]."""
    x, y = positions[..., 0], positions[..., 1]
    along, across = _C4_VARIANCES
    terms = []
    for forward, side in ((x, y), (y, -x), (-x, -y), (-y, x)):
        terms.append(-0.5 * ((forward - _C4_RADIUS) ** 2 / along + side**2 / across))
    return torch.logsumexp(torch.stack(terms), 0) - math.log(8.0 * math.pi * math.sqrt(along * across))


def c4() -> Target:
    """Four Gaussians with the symmetry C4."""

    def draw(count: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        x = torch.randn((count, 2), generator=generator, dtype=dtype)
        x = x * torch.tensor(_C4_VARIANCES, dtype=dtype).sqrt() + torch.tensor([_C4_RADIUS, 0.0], dtype=dtype)
        angle = torch.randint(4, (count,), generator=generator) * (0.5 * math.pi)
        cos, sin = torch.cos(angle).to(dtype), torch.sin(angle).to(dtype)
        return torch.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], dim=1)

    symmetry = cyclic(4)
    return Target("c4", c4_log_density, symmetry, normal_start(symmetry, 2.0), draw, False, 1.0)


def _log_mixture(radius: torch.Tensor, radii: tuple[float, ...], width: float) -> torch.Tensor:
    terms = torch.stack([-0.5 * ((radius - centre) / width) ** 2 for centre in radii])
    return torch.logsumexp(terms, 0) - math.log(len(radii) * width * math.sqrt(2.0 * math.pi))


def _shells(name: str, space: int) -> Target:
    radii, width = _RADII[name]

    def log_density(positions: torch.Tensor) -> torch.Tensor:
        return _log_mixture(torch.sqrt((positions**2).sum(-1) + _TINY), radii, width)

    symmetry = orthogonal(space)
    draw = _shell_draw(radii, width, space)
    return Target(name, log_density, symmetry, uniform_start(symmetry, 8.0), draw, False, 1.0)


def _shell_draw(radii: tuple[float, ...], width: float, space: int) -> Draw:
    def draw(count: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        grid = torch.linspace(0.0, max(radii) + 8.0 * width, 40001, dtype=torch.float64)
        density = grid ** (space - 1) * _log_mixture(grid, radii, width).exp()
        total = torch.cumsum(density, 0) / density.sum()
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        radius = grid[torch.searchsorted(total, uniform).clamp(max=len(grid) - 1)].to(dtype)
        direction = torch.randn((count, space), generator=generator, dtype=dtype)
        return radius[:, None] * direction / direction.norm(dim=1, keepdim=True)

    return draw


def circles() -> Target:
    """Two concentric circles in the plane."""
    return _shells("circles", 2)


def spheres() -> Target:
    """Two concentric spheres in space."""
    return _shells("spheres", 3)
