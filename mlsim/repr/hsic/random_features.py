"""Kernels of HSIC, each with its Gram matrix and with random features whose mean product is the kernel.

    imq      k(d) = c / sqrt(c^2 + d^2)
    rbf      k(d) = exp(-d^2 / (2 c^2))
    linear   k(x, y) = x . y

Bochner: a kernel of the difference is k(d) = E_w cos(w . (x - y)), so that phi(x) = [cos(W x), sin(W x)] / sqrt(D)
with D frequencies has E phi(x) . phi(y) = k(x, y). For rbf w = g / c with g ~ N(0, I). The inverse multiquadric is a
scale mixture of Gaussians,

    c / sqrt(c^2 + d^2) = E_z exp(-z^2 d^2 / (2 c^2)),  z ~ N(0, 1)   =>   w = |z| g / c     (z^2/2 ~ Gamma(1/2)),

which needs no tables of Bessel functions.

A scale is learned by maximising the mean of log |d^2 dk/d(d^2)|, the relative slope that the features feel; for equal
distances d both imq and rbf have their optimum at c^2 = d^2 / 2.

Symbols: c ``scale``; d^2 ``squared``; W ``frequencies``; D ``count``.

References: Li, Pogodin, Sutherland & Gretton 2021, arXiv:2106.08320; Rahimi & Recht, NIPS 2007.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from mlsim.errors import SettingsError


class Kernel(ABC):
    """A positive definite kernel on vectors."""

    name: ClassVar[str]

    @abstractmethod
    def gram(self, x: Tensor, y: Tensor, scale: Tensor | float) -> Tensor:
        """k(x_i, y_j), [M, N], of vectors [M, d] and [N, d]."""

    @abstractmethod
    def features(self, x: Tensor, count: int, scale: Tensor | float, generator: torch.Generator) -> Tensor:
        """Random features [N, D'] of vectors [N, d] whose mean product is the kernel; ``count`` frequencies."""

    @abstractmethod
    def log_slope(self, squared: Tensor, scale: Tensor) -> Tensor:
        """log |d^2 dk/d(d^2)| at squared distances of any shape; what a learned scale maximises."""


class _Stationary(Kernel):
    """A kernel of the distance."""

    def gram(self, x: Tensor, y: Tensor, scale: Tensor | float) -> Tensor:
        return self.value(squared_distances(x, y), scale)

    @abstractmethod
    def value(self, squared: Tensor, scale: Tensor | float) -> Tensor:
        """k as a function of the squared distance."""

    @abstractmethod
    def frequencies(self, width: int, count: int, generator: torch.Generator) -> Tensor:
        """Frequencies [width, count] at scale one."""

    def features(self, x: Tensor, count: int, scale: Tensor | float, generator: torch.Generator) -> Tensor:
        phase = x @ (self.frequencies(x.shape[1], count, generator).to(x) / scale)
        return torch.cat([phase.cos(), phase.sin()], dim=1) / count**0.5


class Imq(_Stationary):
    """Inverse multiquadric: heavy tails, so that distant pairs still feel each other."""

    name = "imq"

    def value(self, squared: Tensor, scale: Tensor | float) -> Tensor:
        return scale / (scale**2 + squared).sqrt()

    def frequencies(self, width: int, count: int, generator: torch.Generator) -> Tensor:
        gaussian = torch.randn(width, count, generator=generator, dtype=torch.float64)
        return gaussian * torch.randn(1, count, generator=generator, dtype=torch.float64).abs()

    def log_slope(self, squared: Tensor, scale: Tensor) -> Tensor:
        return (0.5 * scale * squared).clamp_min(_TINY).log() - 1.5 * (scale**2 + squared).log()


class Rbf(_Stationary):
    """Gaussian."""

    name = "rbf"

    def value(self, squared: Tensor, scale: Tensor | float) -> Tensor:
        return (-0.5 * squared / scale**2).exp()

    def frequencies(self, width: int, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(width, count, generator=generator, dtype=torch.float64)

    def log_slope(self, squared: Tensor, scale: Tensor) -> Tensor:
        return (0.5 * squared / scale**2).clamp_min(_TINY).log() - 0.5 * squared / scale**2


class Linear(Kernel):
    """Dot product; its features are the vectors themselves, so that "random" features are exact."""

    name = "linear"

    def gram(self, x: Tensor, y: Tensor, scale: Tensor | float) -> Tensor:
        return x @ y.mT

    def features(self, x: Tensor, count: int, scale: Tensor | float, generator: torch.Generator) -> Tensor:
        return x

    def log_slope(self, squared: Tensor, scale: Tensor) -> Tensor:
        return 0.0 * squared * scale  # the scale plays no part


_TINY = 1e-14
KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (Imq(), Rbf(), Linear())}


def kernel_named(name: str) -> Kernel:
    """The kernel called ``name``.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if name not in KERNELS:
        raise SettingsError(f"kernel: expected one of {', '.join(KERNELS)}, got '{name}'")
    return KERNELS[name]


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, [M, N], never negative."""
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None, :] - 2.0 * x @ y.mT).clamp_min(0.0)
