"""Progress of a long job: a bar on a terminal, a line a minute where the output goes to a file.

A line says how far the job is, how fast, and how long it will take at the speed so far; a job of less than a minute
says nothing. Set-up is no speed: the clock starts with the first part that is done.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

#: Time between two lines, s.
LINE_SECONDS = 60.0


class Bar:
    """How far a job is, on standard error.

    Parameters
    ----------
    total, done : float
        Units of the whole job, and of what earlier calls did.
    what : str
        What is done, for a line: ``mlsim train``.
    unit : str
        Of the speed in a line; empty where ``describe`` says it.
    layout : str, optional
        Format of the bar on a terminal, as of tqdm.
    """

    def __init__(self, total: float, done: float, what: str, unit: str = "", layout: str | None = None) -> None:
        terminal = sys.stderr.isatty()
        self.total, self.n, self.what, self.unit = total, done, what, unit
        self._words, self._begun, self._printed = "", float("nan"), time.monotonic()
        self._first = done
        shape: dict[str, Any] = {"bar_format": layout} if layout else {"unit": unit, "unit_scale": True, "desc": what}
        self._bar = tqdm(total=total, initial=done, disable=not terminal, **shape)
        self._on_terminal = terminal

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def describe(self, words: str) -> None:
        """Say what a bar or line says besides: a speed, an error."""
        self._words = words
        if self._on_terminal:
            self._bar.set_description_str(words, refresh=False)

    def update(self, more: float) -> None:
        """Count ``more`` units."""
        now = time.monotonic()
        if self._begun != self._begun:
            self._begun, self._first = now, self.n + more
        self.n += more
        self._bar.update(more)
        if not self._on_terminal and now - self._printed >= LINE_SECONDS:
            self._printed = now
            print(self.line(now), file=sys.stderr, flush=True)

    def line(self, now: float) -> str:
        """One line about the job at ``now`` (of ``time.monotonic``)."""
        parts = [f"{self.what}: {100 * self.n / self.total:.0f} % done" if self.total else self.what]
        rate = (self.n - self._first) / max(now - self._begun, 1e-9)
        if self._words:
            parts.append(self._words)
        if self.unit and rate > 0:
            parts.append(f"{rate:.3g} {self.unit}/s")
        if rate > 0:
            parts.append(f"about {duration((self.total - self.n) / rate)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A length of time in words, to two places: ``3 h 20 min``."""
    minutes = max(1, round(seconds / 60.0))
    days, hours = minutes // 1440, minutes // 60
    if hours == 0:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days == 0 else f"{days} d {hours % 24} h"
