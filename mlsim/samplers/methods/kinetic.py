"""Kinetic noisy E-SVGD: underdamped Langevin dynamics whose positions also drift along the Stein velocity.

    dx = [v + w phi(x) dt/2] dt      dv = T(s(x)) dt - gamma v dt + sqrt(2 gamma) dW

split as BAOAB with one score per step; w means what it does in ``noisy``. phi vanishes where the particles have the
target's distribution, so that p(x) exp(-|v|^2 / 2) is stationary in the mean-field limit for every w and gamma.

Why beside ``noisy``: the overdamped scheme is biased by O(step) and needs a step below the square of the stiffest
length; BAOAB is exact in position for harmonic wells and of second order elsewhere, and momentum carries a particle
through a basin instead of diffusing across it. On LJ-13 that is the difference between a frozen ensemble and the
target at equal gradients. Why phi moves positions and is no force: as a drift it lowers the Kullback-Leibler divergence
by w KSD^2 per time, whatever v is; as a force it does work, and on DW-4 it heated the particles without bound.

The Stein velocity on one half of the particles comes from the other half (even, odd). Why: with its own term a particle
is pulled along its own score, w s(x) / mean K, a lower temperature that does not vanish at the target when kernels are
narrow; without it the mean of independent particles at the target is zero by the Stein identity, provided the kernel
obeys it (``features``: smoothed distances do, sorted ones do not). It changes slowly and is held for ``every`` steps.

Kicks are cut at ``truncation`` thermal momenta (as in ``hmc``), which frees particles that start on a wall and acts
rarely at equilibrium. The discretisation is not corrected: ``metropolised`` is exact.

Symbols: v ``velocity`` [N, d]; gamma ``friction``; phi ``push`` times w = ``weight`` N / mean K(x, x); T ``truncate``;
dt ``size``; exp(-gamma dt) ``keep``; h ``bandwidth``.
References: Leimkuhler & Matthews 2013 (BAOAB); Zhang, Zhang & Chen 2020, arXiv:1809.01293 (SPOS, overdamped); the
combination with a group-integrated kernel is this package's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from mlsim.errors import InputError
from mlsim.samplers.algorithm import LogDensity, Sampler, begin, evaluate, normal_like, require_positive
from mlsim.samplers.kernels.bandwidth import MEDIAN, Bandwidth
from mlsim.samplers.kernels.stein_kernel import SteinKernel
from mlsim.samplers.methods.langevin import truncate


class State(NamedTuple):
    """Particles, log p, score, velocity, w phi, its bandwidth and scale."""

    positions: torch.Tensor
    log_density: torch.Tensor
    score: torch.Tensor
    velocity: torch.Tensor
    push: torch.Tensor
    bandwidth: float
    scale: float
    steps: int


class Info(NamedTuple):
    """Kinetic temperature (1 at equilibrium), median |w phi| / |s|, bandwidth, share of particles with a cut kick."""

    gradients: int
    temperature: float
    share: float
    bandwidth: float
    truncated: float


class Motion(NamedTuple):
    """Time step dt, friction gamma, weight w of the Stein velocity, steps for which it is held, longest kick."""

    size: float
    friction: float
    weight: float
    every: int
    truncation: float


def init(positions: torch.Tensor, generator: torch.Generator, log_density: LogDensity, kernel: SteinKernel) -> State:
    """Project, evaluate once, draw thermal velocities; the first step has no Stein velocity yet."""
    positions = kernel.symmetry.project(positions.detach().clone())
    value, score = begin(log_density, positions)
    velocity = kernel.symmetry.project(normal_like(positions, generator))
    return State(positions, value, kernel.symmetry.project(score), velocity, torch.zeros_like(positions), 0.0, 1.0, 0)


def cross_field(kernel: SteinKernel, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
    """Stein velocity [N, d] of each half (even, odd) of the particles, induced by the other half."""
    velocity = torch.empty_like(positions)
    for own, rest in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        velocity[own] = kernel.field(positions[own], positions[rest], scores[rest], bandwidth, None)
    return velocity


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    kernel: SteinKernel,
    bandwidth: Bandwidth,
    motion: Motion,
) -> tuple[State, Info]:
    """One BAOAB step."""
    size, weight, every = motion.size, motion.weight, motion.every
    project = kernel.symmetry.project
    count, dimension = state.positions.shape
    reach = motion.truncation * math.sqrt(dimension)
    keep = math.exp(-motion.friction * size)
    velocity = state.velocity + 0.5 * truncate(size * state.score, reach)
    positions = state.positions + 0.5 * size * velocity
    noise = project(normal_like(velocity, generator))
    velocity = keep * velocity + math.sqrt(1.0 - keep**2) * noise
    positions = positions + 0.5 * size * velocity
    positions = project(positions + truncate(0.5 * size**2 * state.push, size * reach))
    value, score = evaluate(log_density, positions)
    score = project(score)
    push, h, scale = state.push, state.bandwidth, state.scale
    if weight > 0.0 and state.steps % every == 0:
        h = bandwidth.choose(kernel, positions, score, state.bandwidth, state.steps // every)
        scale = scale if h == state.bandwidth else weight * count / kernel.diagonal(positions, h)
        push = scale * cross_field(kernel, positions, score, h)
    kick = size * score
    velocity = velocity + 0.5 * truncate(kick, reach)
    fresh = State(positions, value, score, velocity, push, h, scale, state.steps + 1)
    info = Info(
        1,
        float((velocity**2).sum(1).mean()) / kernel.symmetry.freedom,
        float((push.norm(dim=1) / score.norm(dim=1).clamp(min=1e-12)).median()),
        h,
        float((kick.norm(dim=1) > reach).to(torch.float64).mean()),
    )
    return fresh, info


def kinetic_esvgd(
    log_density: LogDensity,
    kernel: SteinKernel,
    size: float,
    friction: float = 1.0,
    bandwidth: Bandwidth = MEDIAN,
    weight: float = 0.03,
    every: int = 5,
    truncation: float = 1.0,
) -> Sampler:
    """Kinetic noisy equivariant SVGD.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...], invariant under the kernel's symmetry.
    kernel : SteinKernel
        E.g. ``esvgd.kernel_for(symmetry)``.
    size : float
        dt, units of the positions (unit masses, kT = 1); about 0.4 over the stiffest frequency.
    friction : float
        gamma, 1 / dt units; motion is ballistic over 1 / gamma. It must damp what the Stein velocity stirs up: on DW-4
        a tenth of 1 / length left the particles hot.
    bandwidth : Bandwidth
        Rule for the kernel width.
    weight : float
        w of the Stein velocity, as in ``noisy_esvgd``; 0 is Langevin dynamics. Small on purpose: the velocity of
        finitely many particles fluctuates, and that heats (DW-4, 100 particles: kinetic temperature 0.96 at
        0.03, 1.19 at 0.1).
    every : int
        Steps for which a Stein velocity is held.
    truncation : float
        Longest kick in thermal momenta sqrt(d).
    """
    require_positive(size, "kinetic E-SVGD time step")
    require_positive(friction, "kinetic E-SVGD friction")
    if every < 1:
        raise InputError(f"kinetic E-SVGD: expected to hold a Stein velocity for at least one step, got {every}")
    motion = Motion(size, friction, weight, every, truncation)
    return Sampler(
        "kinetic-esvgd",
        lambda positions, generator: init(positions, generator, log_density, kernel),
        lambda state, generator: step(state, generator, log_density, kernel, bandwidth, motion),
    )
