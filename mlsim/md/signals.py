"""SIGTERM, SIGHUP (a closed terminal) and Ctrl-C as a request: finish the chunk, write a checkpoint, stop.

Work that has no checkpoint, such as the equilibration of a new box, is given up instead: it calls
:meth:`StopRequest.heed` now and then, and who began it removes what it had written.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

#: Signals that ask for a stop.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
#: Wall time between two looks at the stop request, s.
RESPONSE_SECONDS = 0.5


class Stopped(Exception):
    """Work without a checkpoint was given up because of a stop request; not an error."""


class StopRequest:
    """Whether somebody asked the run to stop, and how."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.exit_code = 0

    def ask(self, reason: str, exit_code: int) -> None:
        """Request a stop; the first reason counts."""
        if self.reason is None:
            self.reason, self.exit_code = reason, exit_code

    def heed(self) -> None:
        """Give up work that cannot be continued later.

        Raises
        ------
        Stopped
            If somebody asked to stop.
        """
        if self.reason is not None:
            raise Stopped(self.reason)


@contextmanager
def listening(request: StopRequest | None = None) -> Iterator[StopRequest]:
    """Catch SIGTERM, SIGHUP and SIGINT for the time of a run (main thread only); a second Ctrl-C interrupts at once.

    SIGHUP stays ignored where it is (``nohup``).

    Parameters
    ----------
    request : StopRequest, optional
        The one to ask; by default a new one.
    """
    request = request or StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        request.ask(signal.Signals(number).name, 128 + number)

    heard = [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Progress(Protocol):
    """Told how far a run is."""

    def advance(self, steps: int) -> None:
        """``steps`` more are done."""


class Clock:
    """The time limit of a call, which asks for a stop like anybody else.

    Parameters
    ----------
    deadline : float
        Value of ``time.monotonic()`` at which to stop; infinity for no limit. It is the same clock in all processes.
    stop : StopRequest
    """

    def __init__(self, deadline: float, stop: StopRequest) -> None:
        self.deadline, self.stop = deadline, stop

    @classmethod
    def of_hours(cls, max_hours: float | None, stop: StopRequest) -> Clock:
        """A limit of ``max_hours`` from now (None: no limit)."""
        return cls(math.inf if max_hours is None else time.monotonic() + 3600.0 * max_hours, stop)

    def is_over(self) -> bool:
        """Whether the work has to end at its next checkpoint."""
        if time.monotonic() > self.deadline:
            self.stop.ask("max_hours", 0)
        return self.stop.reason is not None
