"""Hamiltonian Monte Carlo with truncated kicks and a step size that each particle adapts.

    p ~ N(0, 1);  L times:  p <- p + T(eps s(x))/2,  x <- x + eps p,  p <- p + T(eps s(x))/2
    accept with min(1, exp(H(x, p) - H(x', p'))),   H = -log p(x) + |p|^2 / 2

Any kick that depends on x only keeps the leapfrog map reversible and volume preserving, so cutting kicks at c sqrt(d)
leaves the target exact while particles that start on a wall can still leave it. eps is drawn uniformly within 20 % of
its adapted value each step, against resonances.

Symbols: x ``positions``; p ``momenta``; s ``score``; eps ``exp(log_size)`` [N]; L ``leaps``; c ``truncation``.
References: Neal 2011; Beskos et al. 2013 (acceptance 0.65 to 0.8).
"""

from __future__ import annotations

import math

import torch

from mlsim.errors import InputError
from mlsim.samplers.algorithm import (
    LogDensity,
    Projection,
    Sampler,
    evaluate,
    everywhere,
    normal_like,
    require_positive,
)
from mlsim.samplers.methods.langevin import truncate
from mlsim.samplers.methods.mala import Info, State, adapt, init


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    project: Projection,
    leaps: int,
    truncation: float,
    goal: float,
) -> tuple[State, Info]:
    """One trajectory of ``leaps`` leapfrog steps and its Metropolis test."""
    count = len(state.positions)
    jitter = 0.8 + 0.4 * torch.rand(count, generator=generator, dtype=state.positions.dtype)
    eps = (state.log_size.exp() * jitter)[:, None]
    reach = truncation * math.sqrt(state.positions.shape[1])
    start = project(normal_like(state.positions, generator))
    momenta, x, value, score = start, state.positions, state.log_density, state.score
    for _ in range(leaps):
        momenta = momenta + 0.5 * truncate(eps * score, reach)
        x = x + eps * momenta
        value, score = evaluate(log_density, x)
        score = project(score)
        momenta = momenta + 0.5 * truncate(eps * score, reach)
    change = value - state.log_density - 0.5 * ((momenta**2).sum(-1) - (start**2).sum(-1))
    change = torch.where(torch.isnan(change), torch.full_like(change, -torch.inf), change)
    probability = change.clamp(max=0.0).exp()
    accepted = torch.rand(count, generator=generator, dtype=x.dtype) < probability
    fresh = State(
        torch.where(accepted[:, None], x, state.positions),
        torch.where(accepted, value, state.log_density),
        torch.where(accepted[:, None], score, state.score),
        adapt(state.log_size, probability, state.steps, goal),
        state.steps + 1,
    )
    return fresh, Info(leaps, float(probability.mean()), float(state.log_size.mean().exp()))


def hmc(
    log_density: LogDensity,
    size: float = 0.05,
    leaps: int = 10,
    truncation: float = 1.0,
    goal: float = 0.75,
    project: Projection = everywhere,
) -> Sampler:
    """Hamiltonian Monte Carlo.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...].
    size : float
        First eps, units of the positions; adapted from there.
    leaps : int
        Leapfrog steps, i.e. gradient evaluations, per step.
    truncation : float
        Longest kick in units of the thermal momentum sqrt(d).
    goal : float
        Acceptance probability aimed at.
    project : callable
        Projection onto the subspace to move in.
    """
    require_positive(size, "HMC step size")
    if leaps < 1:
        raise InputError(f"HMC: expected at least one leapfrog step, got {leaps}")
    return Sampler(
        "hmc",
        lambda positions, generator: init(positions, generator, log_density, project, size),
        lambda state, generator: step(state, generator, log_density, project, leaps, truncation, goal),
    )
