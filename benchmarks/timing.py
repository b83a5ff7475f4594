"""Interleaved timing of several contenders on one core of a machine that may be busy with other work.

Every round times each contender once, in an order that turns; ratios are formed inside a round, so that what slows the
machine down for a while slows both sides. Times are processor seconds of this process, all threads: on a quiet machine
they are wall seconds of one core, on a busy one they leave out the waiting (wall seconds are recorded too).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of repeats."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of a list of numbers."""
        return cls(float(np.min(values)), float(np.median(values)), float(np.max(values)))

    def record(self) -> dict[str, float]:
        """JSON-able, 4 significant digits."""
        return {name: float(f"{getattr(self, name):.4g}") for name in ("least", "median", "most")}


def interleaved(
    contenders: Mapping[str, Callable[[int], None]], rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Units of work per processor second, and per wall second, of each contender in each round.

    Parameters
    ----------
    contenders : mapping of name to callable(units)
        Does that many units of work (warmed up here once).
    rounds : int
    seconds : float
        Processor time per contender and round.
    """
    sizes = {}
    for name, work in contenders.items():
        work(1)
        units, spent = 1, 0.0
        while spent < 0.25 * seconds:
            units = max(units, min(8 * units, int(units * 0.5 * seconds / max(spent, 1e-6)))) if spent else units
            began = time.process_time()
            work(units)
            spent = time.process_time() - began
        sizes[name] = max(1, round(units * seconds / spent))
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            began, clock = time.process_time(), time.perf_counter()
            contenders[name](sizes[name])
            spent, passed = time.process_time() - began, time.perf_counter() - clock
            processor[name].append(sizes[name] / spent)
            wall[name].append(sizes[name] / passed)
    return processor, wall


def ratio(rates: Mapping[str, Sequence[float]], of: str, to: str) -> Spread:
    """Ratio of two contenders' rates, round by round."""
    return Spread.of([a / b for a, b in zip(rates[of], rates[to], strict=True)])
