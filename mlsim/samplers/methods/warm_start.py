"""One sampler first, another one after: e.g. E-SVGD transports the particles, MALA makes them exact.

    sampler = warm_start(esvgd(p, kernel), 100, mala(p))

The first sampler gets ``gradients`` evaluations per particle, then its particles start the second one (whose ``init``
costs one more evaluation, reported by the step that switches).

Symbols: ``inner`` the state of whichever sampler is active; ``spent`` gradients so far.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from mlsim.samplers.algorithm import Sampler


class State(NamedTuple):
    """Particles and log p, and the active sampler's own state."""

    positions: torch.Tensor
    log_density: torch.Tensor
    inner: Any
    spent: int
    second: bool


class Info(NamedTuple):
    """Gradients of this step and the active sampler's own info."""

    gradients: int
    inner: Any


def init(positions: torch.Tensor, generator: torch.Generator, first: Sampler) -> State:
    """Start the first sampler."""
    inner = first.init(positions, generator)
    return State(inner.positions, inner.log_density, inner, 1, False)


def step(state: State, generator: torch.Generator, first: Sampler, gradients: int, then: Sampler) -> tuple[State, Info]:
    """One step of the active sampler, switching when the first one's budget is spent."""
    inner, second, cost = state.inner, state.second, 0
    if not second and state.spent >= gradients:
        inner, second, cost = then.init(state.positions, generator), True, 1
    inner, info = (then if second else first).step(inner, generator)
    cost += info.gradients
    return State(inner.positions, inner.log_density, inner, state.spent + cost, second), Info(cost, info)


def warm_start(first: Sampler, gradients: int, then: Sampler) -> Sampler:
    """``first`` for ``gradients`` evaluations per particle, ``then`` afterwards."""
    return Sampler(
        f"{first.name}+{then.name}",
        lambda positions, generator: init(positions, generator, first),
        lambda state, generator: step(state, generator, first, gradients, then),
    )
