"""SO(2) and O(2): group integrals in closed form by Bessel functions.

With a = A_00 + A_11, b = A_10 - A_01 every rotation by t has tr(A^T R) = a cos t + b sin t, so

    int exp(tr(A^T R)) dR = I0(kappa)      int exp(tr(A^T R)) R dR = I1(kappa) R(alpha)

with kappa = hypot(a, b), alpha = atan2(b, a). Reflections [[cos t, sin t], [sin t, -cos t]] are the same with
a' = A_00 - A_11, b' = A_10 + A_01, and O(2) is the mean of both cosets.

Symbols: kappa ``size``; R(alpha) ``cosine``, ``sine``; A ``overlap``; c ``shift``.
Reference: derived for this package; Reisert & Burkhardt 2007 for the construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mlsim.samplers.groups.bessel import scaled_bessel

_TINY = 1e-300


def _turns(overlap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return overlap[0, 0] + overlap[1, 1], overlap[1, 0] - overlap[0, 1]


def _mirrors(overlap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return overlap[0, 0] - overlap[1, 1], overlap[1, 0] + overlap[0, 1]


def _coset(a: torch.Tensor, b: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """exp(-shift) times I0, I1 cos(alpha), I1 sin(alpha)."""
    size = torch.addcmul(a * a, b, b).sqrt_()
    scaled, ratio = scaled_bessel(size)
    weight = torch.exp(size - shift).mul_(scaled)
    along = (weight * ratio).div_(size.clamp_(min=_TINY))
    return weight, a * along, b * along


def _uniform_angle(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator, dtype=torch.float64)) * 2.0 * math.pi


def _turn(angle: float, dtype: torch.dtype) -> torch.Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=dtype)


@dataclass(frozen=True)
class PlanarRotations:
    """SO(2), all rotations of the plane."""

    name: str = "SO(2)"
    space: int = 2
    order: int | None = None

    def moments(self, overlap: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bessel closed form, see ``rotations.Rotations``."""
        weight, cosine, sine = _coset(*_turns(overlap), shift)
        return weight, torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])

    def reach(self, overlap: torch.Tensor) -> torch.Tensor:
        """Largest trace, see ``rotations.Rotations``."""
        return torch.hypot(*_turns(overlap))

    def best(self, overlap: torch.Tensor) -> torch.Tensor:
        """Aligning rotation, see ``rotations.Rotations``."""
        a, b = _turns(overlap)
        angle = torch.atan2(b, a)
        cosine, sine = torch.cos(angle), torch.sin(angle)
        return torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])

    def draw(self, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        """A uniform rotation [2, 2]."""
        return _turn(_uniform_angle(generator), dtype)


@dataclass(frozen=True)
class PlanarOrthogonal:
    """O(2), rotations and reflections of the plane."""

    name: str = "O(2)"
    space: int = 2
    order: int | None = None

    def moments(self, overlap: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bessel closed form, see ``rotations.Rotations``."""
        weight, cosine, sine = _coset(*_turns(overlap), shift)
        mirror_weight, mirror_cosine, mirror_sine = _coset(*_mirrors(overlap), shift)
        first = torch.empty((2, 2, *shift.shape), dtype=shift.dtype, device=shift.device)
        torch.add(cosine, mirror_cosine, out=first[0, 0])
        torch.sub(cosine, mirror_cosine, out=first[1, 1])
        torch.add(sine, mirror_sine, out=first[1, 0])
        torch.sub(mirror_sine, sine, out=first[0, 1])
        return weight.add_(mirror_weight).mul_(0.5), first.mul_(0.5)

    def reach(self, overlap: torch.Tensor) -> torch.Tensor:
        """Largest trace, see ``rotations.Rotations``."""
        return torch.maximum(torch.hypot(*_turns(overlap)), torch.hypot(*_mirrors(overlap)))

    def best(self, overlap: torch.Tensor) -> torch.Tensor:
        """Aligning element, see ``rotations.Rotations``."""
        rotation = PlanarRotations().best(overlap)
        a, b = _mirrors(overlap)
        angle = torch.atan2(b, a)
        cosine, sine = torch.cos(angle), torch.sin(angle)
        reflection = torch.stack([torch.stack([cosine, sine]), torch.stack([sine, -cosine])])
        return torch.where(torch.hypot(*_turns(overlap)) >= torch.hypot(a, b), rotation, reflection)

    def draw(self, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        """A uniform element [2, 2]."""
        element = _turn(_uniform_angle(generator), dtype)
        mirrored = float(torch.rand(1, generator=generator)) < 0.5
        return element @ torch.diag(torch.tensor([1.0, -1.0], dtype=dtype)) if mirrored else element
