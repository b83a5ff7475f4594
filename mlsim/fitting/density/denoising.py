"""Denoising score matching: an energy's gradient must point from noisy data back to the data.

    y = x + sigma e,  e ~ N(0, 1)          L = < |sigma grad u(y) - e|^2 > / f

Its minimum over u is the score of the data smoothed by sigma, found without any sampling. 1 is the loss of no score at
all; the minimum lies below it by the share of the noise that the smoothed density reveals. Noise in directions that are
no freedom (the centre of mass) is left out.

With a largest noise sigma_1 > sigma every row has its own s, log s uniform in [log sigma, log sigma_1]:

    y = x + s e                            L = < |sigma^2 grad u(y) / s - e|^2 > / f

At s = sigma it is the loss above; farther out u grows like the squared distance from the data over 2 sigma^2, where one
noise leaves it free to fall (``multiscale`` says more).

Why a warm start with it: contrastive divergence from random parameters first has to dig the basins, with negatives that
are far from any; denoising digs them in a few hundred steps. What it cannot see is the weight of separate basins.

Symbols: sigma ``noise``, sigma_1 ``most``, s ``width``, e ``unit``, f ``symmetry.freedom``.

References: Vincent 2011, Neural Computation 23, 1661; Li, Chen & Sommer 2019, arXiv:1910.07762.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlsim.fitting.density.problem import Problem


def loss(problem: Problem, data: Tensor, noise: float, generator: torch.Generator, most: float = 0.0) -> Tensor:
    """Denoising loss of ``data`` [B, d], differentiable in the parameters.

    Parameters
    ----------
    problem : Problem
    data : Tensor [B, d]
    noise : float
        sigma, in the unit of the data.
    generator : torch.Generator
    most : float
        sigma_1, in the unit of the data; not above ``noise``: one noise.
    """
    symmetry = problem.symmetry
    width = torch.full((len(data), 1), noise, dtype=data.dtype)
    if most > noise:
        share = torch.rand((len(data), 1), generator=generator, dtype=data.dtype)
        width = noise * torch.exp(share * math.log(most / noise))
    unit = symmetry.project(torch.randn(data.shape, generator=generator, dtype=data.dtype))
    with torch.enable_grad():
        noisy = (data + width * unit).requires_grad_(True)
        (gradient,) = torch.autograd.grad(problem.energy(noisy).sum(), noisy, create_graph=True)
    return (noise / width * noise * gradient - unit).square().sum(-1).mean() / symmetry.freedom
