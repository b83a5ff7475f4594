"""Annealing schedules: inverse temperature beta in (0, 1] as a function of the step.

A target p is flattened to p^beta early on, so that particles cross barriers before they settle. Deterministic
samplers multiply the score by beta (annealed SVGD, D'Angelo & Fortuin 2021, arXiv:2101.09815); every schedule here
ends at beta = 1 and stays there, so that what is reported is the target itself.

Symbols: t ``step``; T ``steps`` (length of the ramp); beta_0 ``start``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mlsim.errors import InputError

#: step -> inverse temperature.
Schedule = Callable[[int], float]


def _check(steps: int, start: float) -> None:
    if steps < 1:
        raise InputError(f"annealing: expected at least one step, got {steps}")
    if not 0.0 < start <= 1.0:
        raise InputError(f"annealing: expected a start in (0, 1], got {start}")


def constant() -> Schedule:
    """No annealing: beta = 1."""
    return lambda step: 1.0


#: The default schedule.
UNCHANGED = constant()


def linear(steps: int, start: float) -> Schedule:
    """beta_0 + (1 - beta_0) t/T, then 1."""
    _check(steps, start)
    return lambda step: min(1.0, start + (1.0 - start) * step / steps)


def geometric(steps: int, start: float) -> Schedule:
    """beta_0^(1 - t/T), then 1: equal ratios of temperature."""
    _check(steps, start)
    return lambda step: start ** max(0.0, 1.0 - step / steps)


def cyclical(steps: int, start: float, cycles: int) -> Schedule:
    """``cycles`` ramps from beta_0 to 1 (each a tanh of its phase), then 1: explore, settle, explore again."""
    _check(steps, start)
    if cycles < 1:
        raise InputError(f"annealing: expected at least one cycle, got {cycles}")
    length = steps / cycles

    def beta(step: int) -> float:
        if step >= steps:
            return 1.0
        phase = (step % length) / length
        return start + (1.0 - start) * math.tanh((1.3 * phase) ** 4)

    return beta
