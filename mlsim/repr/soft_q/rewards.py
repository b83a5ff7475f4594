"""Rewards: any callable from strings to numbers, counted, remembered and checked.

    reward(["ACDE...", ...]) -> [0.3, ...]            the form that TRL's ``reward_funcs`` has

Why remember: where a reward is a simulation, its calls are the cost of the whole search. A sequence is evaluated once,
every call is counted, and the memory is part of the checkpoint, so that a resumed search repeats nothing.

Why shape: path consistencies compare rewards with log-probabilities. A raw reward in [low, high] is mapped linearly to
[-scale, +scale], and ``scale`` decides how sharply the policy concentrates: at the soft optimum p(x) ~ exp(r(x)), so
that with scale 50 the worst is exp(100) times rarer than the best, and with scale 1 about seven times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlsim.errors import InputError, UnphysicalError

#: Strings in, one number each out.
Reward = Callable[[list[str]], Sequence[float]]


@dataclass
class Remembered:
    """A reward that evaluates every string once.

    Attributes
    ----------
    reward : callable
    known : dict
        String -> value; what is known beforehand costs no call.
    calls : int
        Strings evaluated so far.
    """

    reward: Reward
    known: dict[str, float] = field(default_factory=dict)
    calls: int = 0

    def unknown(self, sequences: Sequence[str]) -> list[str]:
        """Strings that would have to be evaluated, each once, in order."""
        return list(dict.fromkeys(s for s in sequences if s not in self.known))

    def __call__(self, sequences: Sequence[str]) -> list[float]:
        """Values of ``sequences``.

        Raises
        ------
        InputError
            If the reward returns another number of values than it got strings.
        UnphysicalError
            If a value is not finite.
        """
        fresh = self.unknown(sequences)
        if fresh:
            values = [float(v) for v in self.reward(fresh)]
            if len(values) != len(fresh):
                raise InputError(f"reward: expected {len(fresh)} values, one per sequence, got {len(values)}")
            for text, value in zip(fresh, values, strict=True):
                if not math.isfinite(value):
                    raise UnphysicalError(f"reward of '{text}' is {value}; a reward must be a finite number")
            self.known.update(zip(fresh, values, strict=True))
            self.calls += len(fresh)
        return [self.known[s] for s in sequences]


@dataclass(frozen=True)
class Shaping:
    """Linear map of raw rewards in [``low``, ``high``] to [-``scale``, ``scale``]; values outside are mapped too."""

    low: float
    high: float
    scale: float

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.scale > 0):
            raise InputError(f"shaping: expected low < high and scale > 0, got {self.low}, {self.high}, {self.scale}")

    def __call__(self, raw: Sequence[float]) -> Tensor:
        """Shaped rewards, float32 [B]."""
        values = torch.tensor(list(raw), dtype=torch.float32)
        return self.scale * (2.0 * (values - self.low) / (self.high - self.low) - 1.0)
