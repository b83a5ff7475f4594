"""Radial bases and the smooth cutoff.

A basis turns a distance into R smooth features of order one, from which a small network makes a filter.

    gaussian   b_k(d) = exp(-(d - mu_k)^2 / (2 sigma^2)),  mu_k even on [0, c],  sigma = spacing of the centres
    bessel     b_k(d) = sqrt(2) sin(k pi u) / (k0 u),      u = d / c,  k = 1..R,  k0 = pi  (scaled to order one)
    envelope   f(d)   = 1 - 10 u^3 + 15 u^4 - 6 u^5 for u < 1, else 0

The envelope and its first two derivatives vanish at the cutoff, so that forces are continuously differentiable
there. The exponent of a Gaussian is kept above -40: beyond, the value (4e-18) is lost in rounding anyway, but a
floating-point underflow would make it a denormal number, which slows the arithmetic of a CPU several times.

Symbols: d ``distance``, c ``cutoff_nm``, u ``ratio``, mu ``centres``.

References: Schuett et al., J. Chem. Phys. 148, 241722 (2018) (Gaussians); Gasteiger et al., ICLR 2020 (Bessel).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mlsim.errors import SettingsError

_LOWEST_EXPONENT = -40.0


def smooth_envelope(distance: Tensor, cutoff_nm: float) -> Tensor:
    """Envelope f(d), same shape as ``distance`` (nm): 1 at zero, 0 from the cutoff on, C2 everywhere."""
    ratio = (distance / cutoff_nm).clamp(max=1.0)
    return 1.0 - ratio * ratio * ratio * (10.0 - 15.0 * ratio + 6.0 * ratio * ratio)


class GaussianBasis(nn.Module):
    """R Gaussians on [0, cutoff]: distance [...] (nm) -> features [..., R]."""

    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        centres: Tensor

    def __init__(self, size: int, cutoff_nm: float) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0.0, cutoff_nm, size, dtype=torch.float64), persistent=False)
        self.lowest_exponent = _LOWEST_EXPONENT
        self.scale = (size - 1) / cutoff_nm / math.sqrt(2.0)

    def forward(self, distance: Tensor) -> Tensor:
        """Features [..., R] of distances [...] (nm)."""
        offset = (distance.unsqueeze(-1) - self.centres.to(distance.dtype)) * self.scale
        return torch.exp((-offset * offset).clamp(min=self.lowest_exponent))


class BesselBasis(nn.Module):
    """R spherical Bessel functions of order zero on [0, cutoff]: distance [...] (nm) -> features [..., R]."""

    if TYPE_CHECKING:
        wavenumbers: Tensor

    def __init__(self, size: int, cutoff_nm: float) -> None:
        super().__init__()
        wavenumbers = math.pi * torch.arange(1, size + 1, dtype=torch.float64)
        self.register_buffer("wavenumbers", wavenumbers, persistent=False)
        self.cutoff_nm = cutoff_nm

    def forward(self, distance: Tensor) -> Tensor:
        """Features [..., R] of distances [...] (nm)."""
        ratio = distance.unsqueeze(-1) / self.cutoff_nm
        return math.sqrt(2.0) / math.pi * torch.sin(ratio * self.wavenumbers.to(distance.dtype)) / ratio


def radial_basis(name: str, size: int, cutoff_nm: float) -> nn.Module:
    """The basis called ``name``, with ``size`` functions on [0, cutoff_nm]."""
    if name == "gaussian":
        return GaussianBasis(size, cutoff_nm)
    if name == "bessel":
        return BesselBasis(size, cutoff_nm)
    raise SettingsError(f"unknown radial basis '{name}'; expected 'gaussian' or 'bessel'")
