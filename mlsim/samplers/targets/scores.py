"""How far a set of particles is from a reference: the metrics of the field, each with its convention spelt out.

    energy_w2           Wasserstein-2 distance of the energies (square root taken: units of energy)
    distance_w2         the same for the pooled pair distances
    total_variation     1/2 sum |p - q| of pair-distance histograms on the range of the reference; particles outside the
                        range count as missing mass (some codes drop them, which flatters unrelaxed samples)
    geometric_w2        sqrt of the optimal-transport mean of min_g |x - g y|^2, equal numbers of particles
    quench              local minima reached by L-BFGS; ``descend`` is a batched descent for many particles

All are biased upwards for few particles: compare with the iid floor at the same number.

Symbols: quantile functions on a midpoint grid of ``_LEVELS`` levels replace sorting, so that sizes may differ.
References: Akhound-Sadegh et al. 2024 (DEM), whose published energy and distance W2 are squares of these.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, minimize

from mlsim.errors import InputError
from mlsim.samplers.algorithm import LogDensity, evaluate
from mlsim.samplers.kernels.stein_kernel import SteinKernel
from mlsim.shapes import Floats

_LEVELS = 20000


def wasserstein_2(first: Floats, second: Floats) -> float:
    """Wasserstein-2 distance of two sets of numbers (any sizes)."""
    if len(first) == 0 or len(second) == 0:
        raise InputError("Wasserstein distance: expected at least one number on each side")
    a, b = np.sort(np.asarray(first, dtype=np.float64)), np.sort(np.asarray(second, dtype=np.float64))
    if len(a) != len(b):
        levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
        a = a[np.minimum((levels * len(a)).astype(int), len(a) - 1)]
        b = b[np.minimum((levels * len(b)).astype(int), len(b) - 1)]
    return float(np.sqrt(np.mean((a - b) ** 2)))


def total_variation(reference: Floats, generated: Floats, bins: int = 50) -> float:
    """Total variation of histograms on the range of ``reference``; mass outside the range counts in full."""
    counts, edges = np.histogram(reference, bins=bins)
    found, _ = np.histogram(generated, bins=edges)
    p, q = counts / len(reference), found / len(generated)
    return float(0.5 * (np.abs(p - q).sum() + 1.0 - q.sum()))


def geometric_w2(kernel: SteinKernel, first: torch.Tensor, second: torch.Tensor) -> float:
    """Wasserstein-2 distance on orbits of two equally large sets [N, d], with the kernel's exact orbit distance."""
    if first.shape != second.shape:
        raise InputError(f"geometric W2: expected equal shapes, got {list(first.shape)} and {list(second.shape)}")
    count = len(first)
    cost = kernel.squared_distances(torch.cat([first, second]))[:count, count:].numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def quench(log_density: LogDensity, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow each particle to its local minimum of -log p: minima [N, d] and their energies [N]."""
    minima = []
    for start in positions:

        def energy(x: Floats) -> tuple[float, Floats]:
            value, score = evaluate(log_density, torch.as_tensor(x, dtype=torch.float64)[None])
            return -float(value[0]), -score[0].numpy()

        found = minimize(energy, start.to(torch.float64).numpy(), jac=True, method="L-BFGS-B")
        minima.append(torch.as_tensor(found.x))
    stacked = torch.stack(minima)
    return stacked, -log_density(stacked)


def descend(log_density: LogDensity, positions: torch.Tensor, steps: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [N, d] and energies [N] after a batched descent with Barzilai-Borwein steps, every particle its own.

    An uphill step is undone and retried at a quarter of its length. Far cheaper than ``quench`` for thousands of
    particles; those that have not settled have an energy that ``nearest_minimum`` does not know.
    """
    x = positions.detach().clone()
    value, score = evaluate(log_density, x)
    size = (1e-2 / score.norm(dim=1).clamp(min=1e-12)).clamp(max=1e-2)
    for _ in range(steps):
        shift = size[:, None] * score
        fresh_value, fresh_score = evaluate(log_density, x + shift)
        better = fresh_value >= value
        change = fresh_score - score
        curved = -(shift * change).sum(1)
        newton = torch.where(curved > 0.0, (shift**2).sum(1) / curved.clamp(min=1e-300), 2.0 * size)
        size = torch.where(better, newton.clamp(1e-6, 1e-1), 0.25 * size)
        x = torch.where(better[:, None], x + shift, x)
        value = torch.where(better, fresh_value, value)
        score = torch.where(better[:, None], fresh_score, score)
    return x, -value


def nearest_minimum(energies: torch.Tensor, known: tuple[float, ...], tolerance: float = 0.02) -> torch.Tensor:
    """Index of the known minimum of each quenched energy [N], -1 where none is within ``tolerance``."""
    gap, index = (energies[:, None] - torch.tensor(known, dtype=energies.dtype)[None]).abs().min(1)
    return torch.where(gap < tolerance, index, torch.full_like(index, -1))
