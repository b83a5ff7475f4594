"""Work on several tasks at once: in this process one after the other, or in spawned processes.

Progress and stop requests cross the process border through shared memory: every worker adds its steps to one
counter and looks at one flag, so a SIGTERM to the parent lets all of them write a checkpoint. A stop that a worker was
asked for by itself (a signal to it, its time limit) is one for all. A worker whose parent is gone stops at its next
checkpoint and ends; one that was killed ends the others at theirs.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mlsim.errors import WorkerError
from mlsim.md.signals import Progress, StopRequest, listening

_POLL_SECONDS = 0.2
_PARENT_SECONDS = 1.0
_shared: _Shared | None = None
_slot = 0
_orphaned = False
#: Reason of a stop that the parent asked for.
_FROM_PARENT = "stop requested"

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[R_co]):
    """Picklable work that reports progress, heeds a stop request, and returns how it ended."""

    def __call__(self, progress: Progress | None, stop: StopRequest) -> R_co:
        """Do it."""


class _SharedProgress:
    def advance(self, steps: int) -> None:
        assert _shared is not None
        with _shared.steps.get_lock():
            _shared.steps.value += steps


def end_with_parent(when_gone: Callable[[], bool]) -> None:
    """Watch the parent of this worker process; once it is gone, end as soon as ``when_gone`` says that nothing is lost.

    Why: the parent of a pool that is killed cannot tell its workers, which would hold their directories for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent or not when_gone():
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class _Shared:
    """Memory that parent and workers share: steps done, the stop flag, who the workers are, and which of them work."""

    steps: Any
    flag: Any
    slots: Any
    pids: Any
    busy: Any

    @classmethod
    def of(cls, context: Any, processes: int) -> _Shared:
        """For a pool of ``processes``."""
        steps, flag, slots = (context.Value(kind, 0) for kind in ("q", "b", "i"))
        return cls(steps, flag, slots, context.Array("q", processes), context.Array("b", processes))

    def workers(self, busy: bool) -> list[Any]:
        """Processes of the pool that are alive; those that work on a task, or all."""
        known = {pid for pid, works in zip(self.pids, self.busy, strict=True) if works or not busy}
        return [child for child in multiprocessing.active_children() if child.pid in known]


def _idle() -> bool:
    global _orphaned
    _orphaned = True
    return _shared is None or not _shared.busy[_slot]


def _initialise(shared: _Shared) -> None:
    global _shared, _slot
    with shared.slots.get_lock():
        _slot = shared.slots.value
        shared.slots.value += 1
    shared.pids[_slot] = os.getpid()
    _shared = shared
    end_with_parent(_idle)


class _SharedStop(StopRequest):
    """A request of this process, or of the one that started it."""

    _own: str | None = None

    @property  # type: ignore[override]
    def reason(self) -> str | None:
        """Why, or None; looked up when it is asked for, so that work without progress heeds it too."""
        if self._own is None and _shared is not None and _shared.flag.value:
            self._own = _FROM_PARENT
        if self._own is None and _orphaned:
            self._own = "the process that began it is gone"
        return self._own

    @reason.setter
    def reason(self, value: str | None) -> None:
        self._own = value


def _work(task: Task[R]) -> tuple[R, str | None, int]:
    """What the task returns, and why this process was asked to stop, if not by the parent."""
    assert _shared is not None
    _shared.busy[_slot] = 1
    try:
        with listening(_SharedStop()) as stop:
            result = task(_SharedProgress(), stop)
            own = None if stop.reason == _FROM_PARENT else stop.reason
            return result, own, stop.exit_code
    finally:
        _shared.busy[_slot] = 0


def fan_out(tasks: Sequence[Task[R]], processes: int, progress: Progress | None, stop: StopRequest) -> tuple[R, ...]:
    """Run all tasks; with a stop request, the unfinished ones stop at a checkpoint and the rest do not start.

    Raises
    ------
    WorkerError
        If a process was killed; the others are stopped at a checkpoint first.
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
    shared = _Shared.of(context, processes)
    with ProcessPoolExecutor(processes, context, _initialise, (shared,)) as pool:
        futures: list[Future[tuple[R, str | None, int]]] = []
        try:
            futures += [pool.submit(_work, task) for task in tasks]
            _attend(futures, shared, progress, stop)
            return tuple(f.result()[0] for f in futures if not f.cancelled())
        except BrokenProcessPool:
            shared.flag.value = 1
            while shared.workers(busy=True):  # the pool is lost, their checkpoints need not be
                time.sleep(_POLL_SECONDS)
            for worker in shared.workers(busy=False):  # the pool waits for them, and they for the pool
                worker.kill()
            raise killed() from None


def killed() -> WorkerError:
    """What to say of a pool one of whose processes was killed."""
    return WorkerError(
        "a worker process was killed from outside (out of memory?); the same command with --resume continues, "
        "with fewer --processes if memory is short"
    )


def _attend(
    futures: Sequence[Future[tuple[R, str | None, int]]],
    shared: _Shared,
    progress: Progress | None,
    stop: StopRequest,
) -> None:
    """Pass on progress and stop requests until all tasks are done."""
    seen = 0
    while True:
        over = [f for f in futures if f.done()]
        failed = any(not f.cancelled() and f.exception() is not None for f in over)
        for own, code in (f.result()[1:] for f in over if not f.cancelled() and f.exception() is None):
            if own is not None:
                stop.ask(own if code == 0 else f"{own} to a worker process", code)
        if (stop.reason is not None or failed) and not shared.flag.value:
            shared.flag.value = 1
            for future in futures:
                future.cancel()
        now = shared.steps.value
        if progress is not None and now > seen:
            progress.advance(now - seen)
            seen = now
        if len(over) == len(futures):
            return
        time.sleep(_POLL_SECONDS)
