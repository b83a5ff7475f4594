"""Metropolis-adjusted Langevin with truncated drift and a step size that each particle adapts (MALTA).

    x' = x + T(eps s) + sqrt(2 eps) xi
    accept with min(1, p(x') q(x | x') / p(x) q(x' | x)),   log q(x' | x) = -|x' - x - T(eps s)|^2 / 4 eps
    log eps <- log eps + t^-0.6 (acceptance - 0.574)

The truncation depends on x and eps only, so detailed balance holds for a given eps, and the adaptation vanishes with
t (diminishing adaptation). Without truncation MALA gets stuck or blows up on quartic and r^-12 walls.

Symbols: x ``positions``; s ``score``; eps ``exp(log_size)`` [N]; T ``truncate``; xi ``noise``; t ``steps``.
References: Roberts & Tweedie 1996; Atchade 2006 (truncated, adaptive); Roberts & Rosenthal 1998 (0.574).
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
from mlsim.samplers.methods.langevin import truncate


class State(NamedTuple):
    """Particles, log p, score, and the log step size of each particle."""

    positions: torch.Tensor
    log_density: torch.Tensor
    score: torch.Tensor
    log_size: torch.Tensor
    steps: int


class Info(NamedTuple):
    """Mean acceptance probability and geometric mean step size."""

    gradients: int
    acceptance: float
    size: float


def init(
    positions: torch.Tensor,
    generator: torch.Generator,
    log_density: LogDensity,
    project: Projection,
    size: float,
) -> State:
    """Project, evaluate once, start every particle at ``size``."""
    positions = project(positions.detach().clone())
    value, score = begin(log_density, positions)
    return State(positions, value, project(score), positions.new_full((len(positions),), math.log(size)), 0)


def transition(
    positions: torch.Tensor,
    log_density: torch.Tensor,
    drift: torch.Tensor,
    proposal: torch.Tensor,
    proposal_density: torch.Tensor,
    proposal_drift: torch.Tensor,
    eps: torch.Tensor,
) -> torch.Tensor:
    """log acceptance ratio [N] of Langevin proposals with (truncated) drifts; NaN counts as -inf."""
    forward = ((proposal - positions - drift) ** 2).sum(-1) / (4.0 * eps)
    backward = ((positions - proposal - proposal_drift) ** 2).sum(-1) / (4.0 * eps)
    ratio = proposal_density - log_density + forward - backward
    return torch.where(torch.isnan(ratio), torch.full_like(ratio, -torch.inf), ratio)


def adapt(log_size: torch.Tensor, probability: torch.Tensor, count: int, goal: float) -> torch.Tensor:
    """Robbins-Monro update of log step sizes."""
    return log_size + (count + 1.0) ** -0.6 * (probability - goal)


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    project: Projection,
    truncation: float,
    goal: float,
    temper: torch.Tensor | float = 1.0,
) -> tuple[State, Info]:
    """One Metropolis-adjusted step for p^temper (number, or [N] for a tempered ensemble)."""
    beta = torch.as_tensor(temper, dtype=state.positions.dtype).expand(len(state.positions))
    eps = state.log_size.exp()
    reach = truncation * torch.sqrt(2.0 * eps * state.positions.shape[1])[:, None]
    pull = (eps * beta)[:, None]
    drift = truncate(pull * state.score, reach)
    noise = project(normal_like(state.positions, generator))
    proposal = state.positions + drift + torch.sqrt(2.0 * eps)[:, None] * noise
    value, score = evaluate(log_density, proposal)
    score = project(score)
    back = truncate(pull * score, reach)
    ratio = transition(state.positions, beta * state.log_density, drift, proposal, beta * value, back, eps)
    probability = ratio.clamp(max=0.0).exp()
    uniform = torch.rand(len(ratio), generator=generator, dtype=ratio.dtype)
    accepted = uniform < probability
    fresh = State(
        torch.where(accepted[:, None], proposal, state.positions),
        torch.where(accepted, value, state.log_density),
        torch.where(accepted[:, None], score, state.score),
        adapt(state.log_size, probability, state.steps, goal),
        state.steps + 1,
    )
    return fresh, Info(1, float(probability.mean()), float(state.log_size.mean().exp()))


def mala(
    log_density: LogDensity,
    size: float = 0.01,
    truncation: float = 1.0,
    goal: float = 0.574,
    project: Projection = everywhere,
) -> Sampler:
    """Truncated adaptive MALA.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...].
    size : float
        First eps, squared units of the positions; adapted from there.
    truncation : float
        Longest drift in units of the noise length; infinity gives textbook MALA.
    goal : float
        Acceptance probability aimed at.
    project : callable
        Projection onto the subspace to move in.
    """
    require_positive(size, "MALA step size")
    return Sampler(
        "mala",
        lambda positions, generator: init(positions, generator, log_density, project, size),
        lambda state, generator: step(state, generator, log_density, project, truncation, goal),
    )
