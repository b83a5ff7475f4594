"""Parallel tempering: K replicas of every particle at inverse temperatures 1 = beta_1 > ... > beta_K, moved by MALA.

After every ``every`` moves, neighbours (k, k + 1), alternately even and odd k, swap configurations with min(1,
exp[(beta_k - beta_k+1)(log p(x_k+1) - log p(x_k))]): hot replicas cross barriers, the cold one inherits them, and
basin weights come out right where local samplers keep those of their start. One step costs K gradients per particle.

Symbols: beta ``betas`` [K]; replicas of all particles flattened, k-major: ``inner.positions`` [K N, d].
References: Geyer 1991; Earl & Deem 2005; Kone & Kofke 2005 (geometric ladder).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch

from mlsim.errors import InputError
from mlsim.samplers.algorithm import LogDensity, Projection, Sampler, everywhere, require_positive
from mlsim.samplers.methods.mala import State as Replicas
from mlsim.samplers.methods.mala import init as start
from mlsim.samplers.methods.mala import step as move


class State(NamedTuple):
    """Cold particles [N, d] and their log p; ``inner`` holds all replicas."""

    positions: torch.Tensor
    log_density: torch.Tensor
    inner: Replicas
    steps: int


class Info(NamedTuple):
    """Mean acceptance of moves and of the swaps tried in this step (NaN when none was)."""

    gradients: int
    acceptance: float
    swaps: float


def init(
    positions: torch.Tensor,
    generator: torch.Generator,
    log_density: LogDensity,
    project: Projection,
    betas: tuple[float, ...],
    size: float,
) -> State:
    """All replicas start from the same particles."""
    inner = start(positions.repeat(len(betas), 1), generator, log_density, project, size)
    count = len(positions)
    return State(inner.positions[:count], inner.log_density[:count], inner, 0)


def step(
    state: State,
    generator: torch.Generator,
    log_density: LogDensity,
    project: Projection,
    betas: tuple[float, ...],
    every: int,
) -> tuple[State, Info]:
    """One MALA move of every replica, then a sweep of swaps if it is time."""
    levels, count = len(betas), len(state.positions)
    beta = torch.tensor(betas, dtype=state.positions.dtype)
    inner, info = move(state.inner, generator, log_density, project, 1.0, 0.574, beta.repeat_interleave(count))
    rate = float("nan")
    if (state.steps + 1) % every == 0 and levels > 1:
        inner, rate = _swap(inner, beta, count, ((state.steps + 1) // every) % 2, generator)
    fresh = State(inner.positions[:count], inner.log_density[:count], inner, state.steps + 1)
    return fresh, Info(levels, info.acceptance, rate)


def _swap(
    inner: Replicas, beta: torch.Tensor, count: int, parity: int, generator: torch.Generator
) -> tuple[Replicas, float]:
    """Swap neighbours k, k + 1 with k of the given parity, for every particle independently."""
    levels = len(beta)
    value = inner.log_density.view(levels, count)
    source = torch.arange(levels)[:, None].repeat(1, count)
    rates = []
    for low in range(parity, levels - 1, 2):
        ratio = (beta[low] - beta[low + 1]) * (value[low + 1] - value[low])
        probability = ratio.clamp(max=0.0).exp()
        swapped = torch.rand(count, generator=generator, dtype=value.dtype) < probability
        source[low] = torch.where(swapped, low + 1, low)
        source[low + 1] = torch.where(swapped, low, low + 1)
        rates.append(float(probability.mean()))
    index = (source * count + torch.arange(count)[None, :]).reshape(-1)
    moved = inner._replace(
        positions=inner.positions[index], log_density=inner.log_density[index], score=inner.score[index]
    )
    return moved, sum(rates) / len(rates) if rates else float("nan")


def ladder(levels: int, hottest: float) -> tuple[float, ...]:
    """Geometric inverse temperatures from 1 to ``hottest`` (< 1)."""
    if levels < 1 or not 0.0 < hottest <= 1.0:
        raise InputError(f"ladder: expected levels >= 1 and 0 < hottest <= 1, got {levels} and {hottest}")
    return tuple(hottest ** (level / max(1, levels - 1)) for level in range(levels))


def tempering(
    log_density: LogDensity,
    betas: tuple[float, ...] = (1.0, 0.6, 0.36, 0.2),
    every: int = 2,
    size: float = 0.01,
    project: Projection = everywhere,
) -> Sampler:
    """Parallel tempering over MALA.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...]; p^beta must be normalisable for every beta.
    betas : tuple of float
        Inverse temperatures, 1 first, decreasing (``ladder`` makes one).
    every : int
        Moves between swaps.
    size : float
        First MALA step size.
    project : callable
        Projection onto the subspace to move in.
    """
    require_positive(size, "tempering step size")
    if betas[0] != 1.0 or any(not 0.0 < b < a for a, b in itertools.pairwise(betas)):
        raise InputError(f"tempering: expected inverse temperatures 1 = b1 > b2 > ... > 0, got {betas}")
    return Sampler(
        "tempering",
        lambda positions, generator: init(positions, generator, log_density, project, betas, size),
        lambda state, generator: step(state, generator, log_density, project, betas, every),
    )
