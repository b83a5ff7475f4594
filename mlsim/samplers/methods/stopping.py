"""Stopping rules for ``sample``: stop when the equivariant kernel Stein discrepancy no longer falls.

The discrepancy is measured every ``every`` steps with a kernel and bandwidth that stay fixed during the run (a moving
bandwidth would make values incomparable; h is the median rule on the first set seen unless given). The run stops when
the best value of the last ``patience`` measurements is not better than the best before them by ``improvement``.

Symbols: D ``history``; h ``bandwidth``.
Reference: Liu, Lee & Jordan 2016 (KSD as goodness of fit).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mlsim.errors import InputError
from mlsim.samplers.kernels.bandwidth import median
from mlsim.samplers.kernels.discrepancy import discrepancy
from mlsim.samplers.kernels.stein_kernel import SteinKernel


def plateau(
    kernel: SteinKernel,
    every: int = 10,
    patience: int = 5,
    improvement: float = 0.02,
    bandwidth: float = 0.0,
) -> Callable[[Any], str | None]:
    """A rule that stops at a plateau of the discrepancy; make a new one for every run.

    Parameters
    ----------
    kernel : SteinKernel
        With a Stein matrix (not an alignment kernel). The sampler's state, or the one inside it, must hold ``score``.
    every : int
        Steps between measurements.
    patience : int
        Measurements without improvement before stopping.
    improvement : float
        Relative decrease that counts as improvement.
    bandwidth : float
        h; 0 takes the median rule at the first measurement.
    """
    if every < 1 or patience < 1:
        raise InputError(f"plateau: expected every >= 1 and patience >= 1, got {every} and {patience}")
    history: list[float] = []
    width = [bandwidth]
    calls = [0]

    def rule(state: Any) -> str | None:
        calls[0] += 1
        if calls[0] % every:
            return None
        if width[0] <= 0.0:
            width[0] = median(kernel.squared_distances(state.positions))
        history.append(discrepancy(kernel, state.positions, _score(state), width[0]))
        if len(history) <= patience:
            return None
        recent, before = min(history[-patience:]), min(history[:-patience])
        if recent > (1.0 - improvement) * before:
            return f"discrepancy plateau at {min(history):.4g}"
        return None

    return rule


def _score(state: Any) -> torch.Tensor:
    """Scores of the particles: the state's own, or those of the sampler it wraps (cold replicas come first)."""
    for holder in (state, getattr(state, "inner", None)):
        found = getattr(holder, "score", None)
        if isinstance(found, torch.Tensor):
            return found[: len(state.positions)]
    raise InputError(f"plateau: expected a sampler that keeps scores, got a state with {', '.join(state._fields)}")
