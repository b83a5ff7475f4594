"""SO(3) and O(3): group integrals through the matrix-Fisher normaliser, one one-dimensional quadrature.

With the proper singular values s1 >= s2 >= |s3| of A = U diag(s) V^T (U, V in SO(3)),

    w(A) = 1/2 int_0^2 I0((s2 - s3) v / 2) I0((s2 + s3)(2 - v) / 2) exp(s1 (1 - v)) dv
    M(A) = U diag(d w / d s) V^T

The exponentially scaled integrand is exp(-(s1 + s3) v) i0e(..) i0e(..), and the three derivatives are the same
integral weighted by 1 - v, ((v r_a + (2 - v) r_b)/2) and ((-v r_a + (2 - v) r_b)/2), r = I1/I0. Nodes are tanh-sinh:
they pile up at both ends, where the integrand is sharp for concentrated kernels. One point on a sphere is the
rank-one case w = sinh(kappa)/kappa. O(3) is the mean of A and -A.

Symbols: s ``values`` [3, ...]; v ``node``; A ``overlap`` [3, 3, ...]; c ``shift``.
Reference: Lee 2018, IEEE TAC 63:3377 (matrix Fisher distribution on SO(3)); Khatri & Mardia 1977.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch

from mlsim.samplers.groups.bessel import scaled_bessel

_REACH = 3.4
#: Nodes on each side, for singular values below and above ``_SHARP`` (relative error 1e-10, resp. 1e-8 up to 5,000).
_FEW, _MANY = 40, 100
_SHARP = 100.0


@functools.lru_cache(maxsize=2)
def _quadrature(half: int) -> tuple[tuple[float, float, float], ...]:
    """Tanh-sinh on [0, 2]: triples (v, 2 - v, weight), both distances exact near their own end."""
    steps = np.arange(-half, half + 1) * (_REACH / half)
    inner = 0.5 * math.pi * np.sinh(steps)
    weights = 0.5 * math.pi * np.cosh(steps) / np.cosh(inner) ** 2 * (_REACH / half)
    left = 2.0 / (1.0 + np.exp(-2.0 * inner))
    right = 2.0 / (1.0 + np.exp(2.0 * inner))
    return tuple(zip(left.tolist(), right.tolist(), weights.tolist(), strict=True))


def proper_svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U [..., 3, 3], s [..., 3], V^T [..., 3, 3] with U, V in SO(3) and s3 signed."""
    left, values, right = torch.linalg.svd(matrix)
    left_sign, right_sign = torch.linalg.det(left).sign(), torch.linalg.det(right).sign()
    left = torch.cat([left[..., :2], left[..., 2:] * left_sign[..., None, None]], dim=-1)
    right = torch.cat([right[..., :2, :], right[..., 2:, :] * right_sign[..., None, None]], dim=-2)
    last = values[..., 2] * left_sign * right_sign
    return left, torch.stack([values[..., 0], values[..., 1], last], dim=-1), right


def _scaled_moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(-s1 - s2 - s3) times w [...] and dw/ds [3, ...] for proper singular values [3, ...]."""
    first, second, third = values[0], values[1], values[2]
    minus, plus = (second - third).clamp(min=0.0), (second + third).clamp(min=0.0)
    decay = (first + third).clamp(min=0.0)
    weight, slopes = torch.zeros_like(first), torch.zeros_like(values)
    half = _MANY if values.numel() and float(first.max()) > _SHARP else _FEW
    for node, rest, share in _quadrature(half):
        scaled_a, ratio_a = scaled_bessel(0.5 * node * minus)
        scaled_b, ratio_b = scaled_bessel(0.5 * rest * plus)
        term = torch.exp(-node * decay).mul_(scaled_a).mul_(scaled_b).mul_(0.5 * share)
        weight += term
        slopes[0] += term * (1.0 - node)
        slopes[1] += term * (0.5 * (node * ratio_a + rest * ratio_b))
        slopes[2] += term * (0.5 * (rest * ratio_b - node * ratio_a))
    return weight, slopes


def _proper_moments(overlap: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    left, values, right = proper_svd(overlap.movedim((0, 1), (-2, -1)))
    weight, slopes = _scaled_moments(values.movedim(-1, 0))
    scale = torch.exp(values.sum(-1) - shift)
    mean = (left * (slopes * scale).movedim(0, -1)[..., None, :]) @ right
    return weight * scale, mean.movedim((-2, -1), (0, 1))


def _haar(generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """A uniform rotation from a random unit quaternion."""
    quaternion = torch.randn(4, generator=generator, dtype=torch.float64)
    w, x, y, z = (quaternion / quaternion.norm()).tolist()
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=dtype)


@dataclass(frozen=True)
class SpatialRotations:
    """SO(3), all rotations of space."""

    name: str = "SO(3)"
    space: int = 3
    order: int | None = None

    def moments(self, overlap: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Matrix-Fisher quadrature, see ``rotations.Rotations``."""
        return _proper_moments(overlap, shift)

    def reach(self, overlap: torch.Tensor) -> torch.Tensor:
        """Largest trace, see ``rotations.Rotations``."""
        matrix = overlap.movedim((0, 1), (-2, -1))
        values = torch.linalg.svdvals(matrix)
        return values[..., 0] + values[..., 1] + values[..., 2] * torch.linalg.det(matrix).sign()

    def best(self, overlap: torch.Tensor) -> torch.Tensor:
        """Kabsch rotation, see ``rotations.Rotations``."""
        left, _, right = proper_svd(overlap.movedim((0, 1), (-2, -1)))
        return (left @ right).movedim((-2, -1), (0, 1))

    def draw(self, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        """A uniform rotation [3, 3]."""
        return _haar(generator, dtype)


@dataclass(frozen=True)
class SpatialOrthogonal:
    """O(3), rotations and inversions of space."""

    name: str = "O(3)"
    space: int = 3
    order: int | None = None

    def moments(self, overlap: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean of the proper and the inverted coset, see ``rotations.Rotations``."""
        proper, proper_first = _proper_moments(overlap, shift)
        inverted, inverted_first = _proper_moments(-overlap, shift)
        return 0.5 * (proper + inverted), 0.5 * (proper_first - inverted_first)

    def reach(self, overlap: torch.Tensor) -> torch.Tensor:
        """Largest trace, see ``rotations.Rotations``."""
        return torch.linalg.svdvals(overlap.movedim((0, 1), (-2, -1))).sum(-1)

    def best(self, overlap: torch.Tensor) -> torch.Tensor:
        """Kabsch element with reflections allowed, see ``rotations.Rotations``."""
        left, _, right = torch.linalg.svd(overlap.movedim((0, 1), (-2, -1)))
        return (left @ right).movedim((-2, -1), (0, 1))

    def draw(self, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        """A uniform element [3, 3]."""
        element = _haar(generator, dtype)
        return element if float(torch.rand(1, generator=generator)) < 0.5 else -element
