"""Stein variational gradient descent with any Stein kernel: plain, equivariant, aligned or pulled back.

    x_i <- x_i + eps_t phi(x_i)          phi from ``stein_kernel``, scores multiplied by the annealing beta_t

With ``ExplicitKernel(trivial(d))`` this is SVGD; with a group-integrated kernel it is E-SVGD (``esvgd``). The step
rule may use only invariants of a particle (norms), never its coordinates one by one: a coordinate-wise RMSprop would
break the equivariance that the kernel guarantees.

Symbols: x ``positions`` [N, d]; s ``score``; phi ``velocity``; eps ``size``; v ``moment`` [N], running mean of
|phi|^2/d; h ``bandwidth``; beta ``anneal(steps)``.
References: Liu & Wang 2016, arXiv:1608.04471; D'Angelo & Fortuin 2021 (annealing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from mlsim.samplers.algorithm import LogDensity, Sampler, begin, evaluate
from mlsim.samplers.groups.symmetry import trivial
from mlsim.samplers.kernels.bandwidth import MEDIAN, Bandwidth
from mlsim.samplers.kernels.stein_kernel import ExplicitKernel, Memory, SteinKernel
from mlsim.samplers.methods.schedule import UNCHANGED, Schedule


class State(NamedTuple):
    """Particles with everything the next step needs."""

    positions: torch.Tensor
    log_density: torch.Tensor
    score: torch.Tensor
    moment: torch.Tensor
    bandwidth: float
    memory: Memory
    steps: int


class Info(NamedTuple):
    """What a step did: mean |phi| and mean displacement per particle, bandwidth."""

    gradients: int
    velocity_norm: float
    displacement: float
    bandwidth: float


class StepRule(Protocol):
    """How a velocity becomes a displacement; built from invariants only."""

    def move(self, velocity: torch.Tensor, moment: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Displacement [N, d] and the new running moment [N]."""


@dataclass(frozen=True)
class Plain:
    """eps phi, no particle moving farther than ``reach`` in one step."""

    size: float
    reach: float = float("inf")

    def move(self, velocity: torch.Tensor, moment: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``StepRule``."""
        shift = self.size * velocity
        norm = shift.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return shift * (self.reach / norm).clamp(max=1.0), moment


@dataclass(frozen=True)
class Normalised:
    """eps_t phi / sqrt(v) with one v per particle: RMSprop that keeps equivariance.

    eps_t = eps (1 - t / steps) falls linearly to ``last`` eps: a normalised step never ends by itself, so that without
    the decay particles would jitter by eps in their stiffest directions.
    """

    size: float = 0.15
    steps: int = 500
    last: float = 0.01
    memory: float = 0.9

    def move(self, velocity: torch.Tensor, moment: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``StepRule``."""
        moment = self.memory * moment + (1.0 - self.memory) * (velocity**2).mean(1)
        corrected = moment / (1.0 - self.memory ** (count + 1))
        size = self.size * max(self.last, 1.0 - count / self.steps)
        return size * velocity / (corrected.sqrt()[:, None] + 1e-300), moment


#: The default step rule.
NORMALISED = Normalised()


def init(positions: torch.Tensor, generator: torch.Generator, log_density: LogDensity, kernel: SteinKernel) -> State:
    """First state: particles projected into the kernel's subspace, target evaluated once."""
    positions = kernel.symmetry.project(positions.detach().clone())
    value, score = begin(log_density, positions)
    return State(positions, value, kernel.symmetry.project(score), positions.new_zeros(len(positions)), 0.0, None, 0)


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    kernel: SteinKernel,
    bandwidth: Bandwidth,
    rule: StepRule,
    anneal: Schedule,
) -> tuple[State, Info]:
    """One deterministic step; ``generator`` is not used."""
    pull = state.score * anneal(state.steps)
    memory = kernel.prepare(state.positions, state.memory)
    h = bandwidth.choose(kernel, state.positions, pull, state.bandwidth, state.steps)
    velocity = kernel.field(state.positions, state.positions, pull, h, memory)
    shift, moment = rule.move(velocity, state.moment, state.steps)
    positions = kernel.symmetry.project(state.positions + shift)
    value, score = evaluate(log_density, positions)
    fresh = State(positions, value, kernel.symmetry.project(score), moment, h, memory, state.steps + 1)
    return fresh, Info(1, float(velocity.norm(dim=1).mean()), float(shift.norm(dim=1).mean()), h)


def stein_descent(
    name: str,
    log_density: LogDensity,
    kernel: SteinKernel,
    bandwidth: Bandwidth,
    rule: StepRule,
    anneal: Schedule,
) -> Sampler:
    """SVGD with any kernel, bound to a target."""
    return Sampler(
        name,
        lambda positions, generator: init(positions, generator, log_density, kernel),
        lambda state, generator: step(state, generator, log_density, kernel, bandwidth, rule, anneal),
    )


def svgd(
    log_density: LogDensity,
    dimension: int,
    bandwidth: Bandwidth = MEDIAN,
    rule: StepRule = NORMALISED,
    anneal: Schedule = UNCHANGED,
) -> Sampler:
    """Plain SVGD with an RBF kernel.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...].
    dimension : int
        d.
    bandwidth : Bandwidth
        Rule for the kernel width.
    rule : StepRule
        Rule for the step.
    anneal : Schedule
        Inverse temperature by step.
    """
    return stein_descent("svgd", log_density, ExplicitKernel(trivial(dimension)), bandwidth, rule, anneal)
