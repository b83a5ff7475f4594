"""What a Stein kernel says about a set of points: discrepancy, thinning and weights.

    KSD      sqrt(mean_ij u(x_i, x_j))                    0 only for the target (characteristic kernels)
    thin     greedy: next point minimises u(x, x)/2 + sum_chosen u(x, x_c)
    weights  min w^T U w  with  w >= 0, sum w = 1         solved exactly as a non-negative least-squares problem

With a group-integrated kernel all three act on orbits: two copies of a configuration count as one. Neither needs the
normalisation of the target, nor a reference sample. None can see a basin that holds no particle: basin weights need
tempering.

Symbols: U ``matrix`` [N, N] from ``SteinKernel.stein``; w ``weights`` [N].
References: Chwialkowski et al. 2016, Liu et al. 2016 (KSD); Riabiz et al. 2022 (Stein thinning); Liu & Lee 2017
(black-box importance weights).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls

from mlsim.errors import InputError
from mlsim.samplers.kernels.stein_kernel import SteinKernel


def discrepancy(kernel: SteinKernel, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> float:
    """Kernel Stein discrepancy (V-statistic, square root) of ``positions`` [N, d] with ``scores`` [N, d]."""
    return float(kernel.stein(positions, scores, bandwidth).mean().clamp(min=0.0).sqrt())


def thin(matrix: torch.Tensor, count: int, copies: torch.Tensor | None = None) -> torch.Tensor:
    """Indices [count] of a greedy Stein thinning.

    Parameters
    ----------
    matrix : torch.Tensor [N, N]
        Stein kernel between all pairs.
    count : int
        Points to choose.
    copies : int64 torch.Tensor [N], optional
        How often each point may be chosen; without it, as often as it helps.
    """
    _require_square(matrix)
    if count < 1:
        raise InputError(f"Stein thinning: expected to choose at least one point, got {count}")
    left = torch.full((len(matrix),), count) if copies is None else copies.clone()
    if int(left.sum()) < count:
        raise InputError(f"Stein thinning: expected at least {count} copies to choose from, got {int(left.sum())}")
    objective = 0.5 * matrix.diagonal().clone()
    chosen = torch.empty(count, dtype=torch.int64)
    for k in range(count):
        index = int(torch.where(left > 0, objective, torch.inf).argmin())
        chosen[k] = index
        left[index] -= 1
        objective = objective + matrix[index]
    return chosen


def weights(matrix: torch.Tensor) -> torch.Tensor:
    """Non-negative weights [N] with sum 1 that minimise w^T U w.

    With U = L L^T, minimising |L^T v - L^-1 1|^2 over v >= 0 and normalising v gives the constrained minimum exactly.

    Raises
    ------
    InputError
        If the matrix is not square or not positive semi-definite (up to rounding).
    """
    _require_square(matrix)
    stein = matrix.detach().to(torch.float64).cpu().numpy()
    stein = 0.5 * (stein + stein.T)
    jitter = 1e-10 * float(np.trace(stein)) / len(stein)
    try:
        factor = np.linalg.cholesky(stein + jitter * np.eye(len(stein)))
    except np.linalg.LinAlgError:
        raise InputError("Stein weights: the matrix is not positive semi-definite; use an exact kernel") from None
    solution, _ = nnls(factor.T, np.linalg.solve(factor, np.ones(len(stein))), maxiter=50 * len(stein))
    return torch.tensor(solution / solution.sum(), dtype=matrix.dtype)


def effective_count(values: torch.Tensor) -> float:
    """Effective number of points 1 / sum w^2 of normalised weights [N]."""
    return float(1.0 / (values**2).sum())


def _require_square(matrix: torch.Tensor) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not bool(torch.isfinite(matrix).all()):
        raise InputError(f"Stein matrix: expected finite numbers [N, N], got shape {list(matrix.shape)}")
