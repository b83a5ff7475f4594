"""Unadjusted Langevin algorithm (ULA), with a truncated drift so that steep walls cannot throw a particle out.

    x' = x + T(eps s) + sqrt(2 eps) xi        T(v) = v min(1, c sqrt(2 eps d) / |v|)

The truncation length is c times the length of the noise: it is scale free, and at equilibrium with a stable step it
acts rarely. ULA is biased by O(eps); the bias is what ``mala`` removes.

Symbols: x ``positions`` [N, d]; s ``score``; eps ``size``; c ``truncation``; xi ``noise``; T ``truncate``.
References: Roberts & Tweedie 1996; Brosse et al. 2019, arXiv:1710.05559 (tamed Langevin).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from mlsim.samplers.algorithm import (
    LogDensity,
    Projection,
    Sampler,
    begin,
    evaluate,
    everywhere,
    normal_like,
    require_positive,
)


class State(NamedTuple):
    """Particles, log p and score."""

    positions: torch.Tensor
    log_density: torch.Tensor
    score: torch.Tensor
    steps: int


class Info(NamedTuple):
    """What a step did; ``truncated`` is the fraction of particles whose drift was cut."""

    gradients: int
    truncated: float


def truncate(shift: torch.Tensor, reach: torch.Tensor | float) -> torch.Tensor:
    """Shorten vectors [N, d] to at most ``reach`` (number or [N, 1]); directions are kept."""
    norm = shift.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return shift * (reach / norm).clamp(max=1.0)


def init(positions: torch.Tensor, generator: torch.Generator, log_density: LogDensity, project: Projection) -> State:
    """Project and evaluate once."""
    positions = project(positions.detach().clone())
    value, score = begin(log_density, positions)
    return State(positions, value, project(score), 0)


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    project: Projection,
    size: float,
    decay: float,
    truncation: float,
) -> tuple[State, Info]:
    """One Langevin step with eps_t = size / (1 + t / decay)^(1/3)."""
    eps = size / (1.0 + state.steps / decay) ** (1.0 / 3.0)
    drift = eps * state.score
    reach = truncation * math.sqrt(2.0 * eps * state.positions.shape[1])
    noise = project(normal_like(state.positions, generator))
    positions = state.positions + truncate(drift, reach) + math.sqrt(2.0 * eps) * noise
    value, score = evaluate(log_density, positions)
    cut = float((drift.norm(dim=1) > reach).to(torch.float64).mean())
    return State(positions, value, project(score), state.steps + 1), Info(1, cut)


def ula(
    log_density: LogDensity,
    size: float,
    decay: float = float("inf"),
    truncation: float = 1.0,
    project: Projection = everywhere,
) -> Sampler:
    """Unadjusted Langevin.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...].
    size : float
        eps, squared units of the positions.
    decay : float
        Steps after which the step size starts to shrink; infinity keeps it.
    truncation : float
        c; infinity gives the textbook method.
    project : callable
        Projection onto the subspace to move in.
    """
    require_positive(size, "ULA step size")
    return Sampler(
        "ula",
        lambda positions, generator: init(positions, generator, log_density, project),
        lambda state, generator: step(state, generator, log_density, project, size, decay, truncation),
    )
