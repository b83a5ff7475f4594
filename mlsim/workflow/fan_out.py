"""Work on several tasks at once: in this process one after the other, or in spawned processes.

Progress and stop requests cross the process border through shared memory: every worker adds its steps to one
counter and looks at one flag, so a SIGTERM to the parent lets all of them write a checkpoint.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol, TypeVar

from mlsim.md.signals import Progress, StopRequest, listening

_POLL_SECONDS = 0.2
_steps: Any = None
_flag: Any = None


R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[R_co]):
    """Picklable work that reports progress, heeds a stop request, and returns how it ended."""

    def __call__(self, progress: Progress | None, stop: StopRequest) -> R_co:
        """Do it."""


class _SharedProgress:
    def advance(self, steps: int) -> None:
        with _steps.get_lock():
            _steps.value += steps


def _initialise(steps: Any, flag: Any) -> None:
    global _steps, _flag
    _steps, _flag = steps, flag


class _SharedStop(StopRequest):
    """A request of this process, or of the one that started it."""

    _own: str | None = None

    @property  # type: ignore[override]
    def reason(self) -> str | None:
        """Why, or None; looked up when it is asked for, so that work without progress heeds it too."""
        if self._own is None and _flag.value:
            self._own = "stop requested"
        return self._own

    @reason.setter
    def reason(self, value: str | None) -> None:
        self._own = value


def _work(task: Task[R]) -> R:
    with listening(_SharedStop()) as stop:
        return task(_SharedProgress(), stop)


def fan_out(tasks: Sequence[Task[R]], processes: int, progress: Progress | None, stop: StopRequest) -> tuple[R, ...]:
    """Run all tasks; with a stop request, the unfinished ones stop at a checkpoint and the rest do not start.

    Raises
    ------
    BaseException
        The first error of a task; the others are stopped at a checkpoint first.
    """
    if processes <= 1:
        outcomes = []
        for task in tasks:
            if stop.reason is not None:
                break
            outcomes.append(task(progress, stop))
        return tuple(outcomes)
    context = multiprocessing.get_context("spawn")
    steps, flag = context.Value("q", 0), context.Value("b", 0)
    with ProcessPoolExecutor(processes, context, _initialise, (steps, flag)) as pool:
        futures: list[Future[R]] = [pool.submit(_work, task) for task in tasks]
        seen = 0
        while not all(f.done() for f in futures):
            failed = any(f.done() and not f.cancelled() and f.exception() is not None for f in futures)
            if (stop.reason is not None or failed) and not flag.value:
                flag.value = 1
                for future in futures:
                    future.cancel()
            time.sleep(_POLL_SECONDS)
            now = steps.value
            if progress is not None and now > seen:
                progress.advance(now - seen)
                seen = now
        return tuple(f.result() for f in futures if not f.cancelled())
