"""Progress of MD: percent, ns/day, time left; a bar on a terminal, else a line a minute (:mod:`mlsim.progress_bar`)."""

from __future__ import annotations

import time
from types import TracebackType

from mlsim.progress_bar import Bar
from mlsim.units import FS_PER_PS, PS_PER_NS, SECONDS_PER_DAY


class MdProgress:
    """A bar in units of simulated time.

    Parameters
    ----------
    total_steps, done_steps : int
        Summed over replicas.
    timestep_fs : float
    """

    def __init__(self, total_steps: int, done_steps: int, timestep_fs: float) -> None:
        self._ns_per_step = timestep_fs / FS_PER_PS / PS_PER_NS
        self._began: float | None = None  # set by the first chunk: set-up and compilation are not speed
        self._steps = 0
        layout = "{percentage:3.0f}% |{bar:30}| {desc} [{elapsed}<{remaining}]"
        self._bar = Bar(total_steps, done_steps, "simulation", layout=layout)

    def __enter__(self) -> MdProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    @property
    def ns_per_day(self) -> float:
        """Mean speed since the start, summed over replicas."""
        if self._began is None or self._steps == 0:
            return 0.0
        seconds = max(time.monotonic() - self._began, 1e-9)
        return self._steps * self._ns_per_step * SECONDS_PER_DAY / seconds

    def advance(self, steps: int) -> None:
        """Count ``steps`` more."""
        if self._began is None:
            self._began = time.monotonic()
        else:
            self._steps += steps
        done = (self._bar.n + steps) * self._ns_per_step
        self._bar.describe(f"{done:.3f} ns, {self.ns_per_day:.0f} ns/day")
        self._bar.update(steps)
