"""Metropolised E-SVGD: an exact ensemble sampler whose proposals follow the Stein velocity of the other half.

The particles are split into two fixed halves A, B. Each half is moved in turn, with the other one held:

    x' = x + T(eps [s(x) + w phi_B(x)]) + sqrt(2 eps) xi,   phi_B the Stein velocity that B induces at x

and accepted by Metropolis-Hastings. phi_B depends on x and B only, so that for given eps and h the product density
p(x_1)...p(x_N) is exactly invariant: no collapse, no discretisation bias. phi_B pushes A to where B is missing. Every
particle costs one gradient per step. Step sizes adapt per particle as in ``mala``; the bandwidth is chosen from B
and, like them, kept more and more still (``every`` of the rule).

Symbols: phi_B ``velocity``; w ``scale`` = ``weight`` |B| / mean K(x, x); eps ``exp(log_size)`` [N]; h ``bandwidth``; T
``truncate``.
References: Goodman & Weare 2010 (ensembles); Roberts & Tweedie 1996 (MALA); the combination is this package's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from mlsim.errors import InputError
from mlsim.samplers.algorithm import (
    LogDensity,
    Sampler,
    begin,
    evaluate,
    normal_like,
    require_positive,
)
from mlsim.samplers.kernels.bandwidth import MEDIAN, Bandwidth
from mlsim.samplers.kernels.stein_kernel import SteinKernel
from mlsim.samplers.methods.langevin import truncate
from mlsim.samplers.methods.mala import adapt, transition


class State(NamedTuple):
    """Particles, log p, score, log step size of each; bandwidth and scale of the Stein velocity of the two halves."""

    positions: torch.Tensor
    log_density: torch.Tensor
    score: torch.Tensor
    log_size: torch.Tensor
    bandwidths: tuple[float, float]
    scales: tuple[float, float]
    steps: int


class Info(NamedTuple):
    """Mean acceptance probability, geometric mean step size, mean |w phi| / |s|."""

    gradients: int
    acceptance: float
    size: float
    share: float


def init(
    positions: torch.Tensor, generator: torch.Generator, log_density: LogDensity, kernel: SteinKernel, size: float
) -> State:
    """Project, evaluate once, start every particle at ``size``."""
    if len(positions) < 4:
        raise InputError(f"Metropolised E-SVGD: expected at least 4 particles for two halves, got {len(positions)}")
    positions = kernel.symmetry.project(positions.detach().clone())
    value, score = begin(log_density, positions)
    log_size = positions.new_full((len(positions),), math.log(size))
    return State(positions, value, kernel.symmetry.project(score), log_size, (0.0, 0.0), (1.0, 1.0), 0)


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    kernel: SteinKernel,
    bandwidth: Bandwidth,
    weight: float,
    truncation: float,
    goal: float,
) -> tuple[State, Info]:
    """Move the even particles given the odd ones, then the odd ones given the even ones."""
    project = kernel.symmetry.project
    positions, value, score = state.positions.clone(), state.log_density.clone(), state.score.clone()
    log_size = state.log_size.clone()
    chosen, scales, rates, shares = [], [], [], []
    for half in (0, 1):
        own, rest = slice(half, None, 2), slice(1 - half, None, 2)
        x, p, s = positions[own], value[own], score[own]
        others, pulls = positions[rest], score[rest]
        h = bandwidth.choose(kernel, others, pulls, state.bandwidths[half], state.steps)
        same = h == state.bandwidths[half]
        scale = state.scales[half] if same else weight * len(others) / kernel.diagonal(others, h)
        velocity = scale * kernel.field(x, others, pulls, h, None)
        eps = log_size[own].exp()
        reach = truncation * torch.sqrt(2.0 * eps * x.shape[1])[:, None]
        drift = truncate(eps[:, None] * (s + velocity), reach)
        noise = project(normal_like(x, generator))
        proposal = x + drift + torch.sqrt(2.0 * eps)[:, None] * noise
        fresh_p, fresh_s = evaluate(log_density, proposal)
        fresh_s = project(fresh_s)
        fresh_velocity = scale * kernel.field(proposal, others, pulls, h, None)
        back = truncate(eps[:, None] * (fresh_s + fresh_velocity), reach)
        ratio = transition(x, p, drift, proposal, fresh_p, back, eps)
        probability = ratio.clamp(max=0.0).exp()
        accepted = torch.rand(len(x), generator=generator, dtype=x.dtype) < probability
        positions[own] = torch.where(accepted[:, None], proposal, x)
        value[own] = torch.where(accepted, fresh_p, p)
        score[own] = torch.where(accepted[:, None], fresh_s, s)
        log_size[own] = adapt(log_size[own], probability, state.steps, goal)
        chosen.append(h)
        scales.append(scale)
        rates.append(float(probability.mean()))
        shares.append(float((velocity.norm(dim=1) / s.norm(dim=1).clamp(min=1e-12)).median()))
    fresh = State(positions, value, score, log_size, (chosen[0], chosen[1]), (scales[0], scales[1]), state.steps + 1)
    size = float(state.log_size.mean().exp())
    return fresh, Info(1, sum(rates) / 2.0, size, sum(shares) / 2.0)


def metropolised_esvgd(
    log_density: LogDensity,
    kernel: SteinKernel,
    bandwidth: Bandwidth = MEDIAN,
    weight: float = 0.2,
    size: float = 0.01,
    truncation: float = 1.0,
    goal: float = 0.574,
) -> Sampler:
    """Metropolised equivariant SVGD.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...], invariant under the kernel's symmetry.
    kernel : SteinKernel
        E.g. ``esvgd.kernel_for(symmetry)``; for large groups ``PullbackKernel``.
    bandwidth : Bandwidth
        Rule for the kernel width, applied to the half that is held.
    weight : float
        w of the Stein velocity in the drift, per held particle, with the kernel scaled so that K(x, x) is the unit
        matrix on average; 0 is MALA.
    size, truncation, goal
        As in ``mala``.
    """
    require_positive(size, "Metropolised E-SVGD step size")
    return Sampler(
        "metropolised-esvgd",
        lambda positions, generator: init(positions, generator, log_density, kernel, size),
        lambda state, generator: step(state, generator, log_density, kernel, bandwidth, weight, truncation, goal),
    )
