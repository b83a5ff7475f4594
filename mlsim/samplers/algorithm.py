"""The rhythm every sampler keeps: State, Info, init, step, and a factory that binds a target.

A target is a callable ``log_density(positions [..., d]) -> [...]`` (any additive constant); a sampler never sees a
model, a unit or a molecule. ``step`` never changes its argument; randomness comes in as a ``torch.Generator``.
What samplers are compared by is the number of *gradient evaluations per particle*, so every ``Info`` reports it and
``sample`` takes its budget in that currency.

    state = sampler.init(positions, generator)
    state, info = sampler.step(state, generator)      # repeat

Symbols: x ``positions`` [N, d]; log p ``log_density`` [N]; s = grad log p ``score`` [N, d].
Reference: the (init, step) rhythm of blackjax (Cabezas et al. 2024, arXiv:2402.10797).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from mlsim.errors import InputError, UnphysicalError

#: positions [..., d] -> log density [...], up to a constant.
LogDensity = Callable[[torch.Tensor], torch.Tensor]
#: An orthogonal projection of [..., d] onto the subspace the sampler moves in (zero centre of mass).
Projection = Callable[[torch.Tensor], torch.Tensor]


class State(Protocol):
    """What every sampler state holds at least."""

    @property
    def positions(self) -> torch.Tensor:
        """Particles, [N, d]."""

    @property
    def log_density(self) -> torch.Tensor:
        """log p at the particles, [N]."""


class Info(Protocol):
    """What every step reports at least."""

    @property
    def gradients(self) -> int:
        """Gradient evaluations per particle spent in this step."""


class Sampler(NamedTuple):
    """A method bound to a target: ``init(positions, generator)`` and ``step(state, generator)``."""

    name: str
    init: Callable[[torch.Tensor, torch.Generator], Any]
    step: Callable[[Any, torch.Generator], tuple[Any, Any]]


@dataclass(frozen=True)
class Samples:
    """Outcome of ``sample``.

    Attributes
    ----------
    positions : torch.Tensor [N, d]
        Particles at the end.
    log_density : torch.Tensor [N]
        log p there.
    trajectory : torch.Tensor [K, N, d]
        Recorded particles, ``record_every`` steps apart (K = 0 if nothing was recorded).
    gradients : int
        Gradient evaluations per particle spent, the one of ``init`` included.
    steps : int
        Steps made.
    reason : str
        ``"budget"`` or what the stopping rule said.
    state, info : object
        Last state and last info of the sampler.
    infos : tuple
        Info of every recorded step: velocity norm, bandwidth, acceptance, ..., as the sampler reports them.
    """

    positions: torch.Tensor
    log_density: torch.Tensor
    trajectory: torch.Tensor
    gradients: int
    steps: int
    reason: str
    state: Any
    info: Any
    infos: tuple[Any, ...] = ()

    def diagnostic(self, name: str) -> tuple[float, ...]:
        """One number of the recorded infos over time, e.g. ``"bandwidth"`` or ``"acceptance"``.

        Raises
        ------
        InputError
            If the sampler reports no such number.
        """
        for info in self.infos[:1]:
            if name not in info._fields:
                raise InputError(f"diagnostic '{name}': expected one of {', '.join(info._fields)}")
        return tuple(float(getattr(info, name)) for info in self.infos)


def everywhere(vectors: torch.Tensor) -> torch.Tensor:
    """The projection that leaves everything as it is."""
    return vectors


def evaluate(log_density: LogDensity, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log p [N] and score [N, d] at ``positions`` [N, d], both detached."""
    x = positions.detach().requires_grad_(True)
    with torch.enable_grad():
        value = log_density(x)
        (score,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), score.detach()


def begin(log_density: LogDensity, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Check the particles at the door and evaluate the target there once.

    Raises
    ------
    InputError
        If ``positions`` is not a floating [N, d] tensor, or the target does not return [N].
    UnphysicalError
        If a position, log density or score is NaN, or the log density is +inf.
    """
    _require_particles(positions)
    if not bool(torch.isfinite(positions).all()):
        raise UnphysicalError("positions: expected finite numbers, got NaN or infinity in the initial particles")
    value, score = evaluate(log_density, positions)
    if value.shape != positions.shape[:1]:
        raise InputError(
            f"log density: expected one number per particle, shape {list(positions.shape[:1])}, got {list(value.shape)}"
        )
    if bool(torch.isnan(value).any()) or bool((value == float("inf")).any()) or bool(torch.isnan(score).any()):
        raise UnphysicalError("log density: NaN or +inf at the initial particles; start where the target is finite")
    return value, score


def _require_particles(positions: torch.Tensor) -> None:
    if not isinstance(positions, torch.Tensor) or positions.ndim != 2 or not positions.is_floating_point():
        got = f"{list(positions.shape)} {positions.dtype}" if isinstance(positions, torch.Tensor) else type(positions)
        raise InputError(f"positions: expected a floating point tensor [particles, d], got {got}")


def require_positive(value: float, what: str) -> float:
    """``value`` if it is a positive number, else an ``InputError`` that names it."""
    if not value > 0.0:
        raise InputError(f"{what}: expected a positive number, got {value!r}")
    return float(value)


def normal_like(positions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal numbers of the shape, dtype and device of ``positions``."""
    return torch.randn(positions.shape, generator=generator, dtype=positions.dtype, device=positions.device)


def sample(
    sampler: Sampler,
    positions: torch.Tensor,
    gradients: int,
    generator: torch.Generator,
    record_every: int = 0,
    stop: Callable[[Any], str | None] | None = None,
) -> Samples:
    """Run a sampler until its budget is spent or a stopping rule speaks.

    Parameters
    ----------
    sampler : Sampler
        From a factory, e.g. ``mala(log_density)``.
    positions : torch.Tensor [N, d]
        Start; not changed.
    gradients : int
        Budget in gradient evaluations per particle, the one of ``init`` included; never exceeded.
    generator : torch.Generator
        The only source of randomness.
    record_every : int
        Record the particles and the info every so many steps; 0 records nothing.
    stop : callable, optional
        ``stop(state) -> reason or None``, asked after every step (``mlsim.samplers.methods.stopping``).

    Raises
    ------
    InputError, UnphysicalError
        On unusable positions, or when the particles become NaN.
    """
    if gradients < 1:
        raise InputError(f"gradients: expected a budget of at least 1, got {gradients}")
    _require_particles(positions)
    state = sampler.init(positions, generator)
    spent, steps, cost, reason, info = 1, 0, 1, "budget", None
    kept: list[torch.Tensor] = []
    infos: list[Any] = []
    while spent + cost <= gradients:
        state, info = sampler.step(state, generator)
        cost = max(1, info.gradients)
        spent += info.gradients
        steps += 1
        if record_every and steps % record_every == 0:
            kept.append(state.positions)
            infos.append(info)
        if not bool(torch.isfinite(state.positions).all()):
            raise UnphysicalError(f"{sampler.name}: NaN or infinity after {steps} steps; use a smaller step")
        said = stop(state) if stop is not None else None
        if said is not None:
            reason = said
            break
    trajectory = torch.stack(kept) if kept else positions.new_zeros((0, *positions.shape))
    return Samples(state.positions, state.log_density, trajectory, spent, steps, reason, state, info, tuple(infos))
