"""SIGTERM and Ctrl-C as a request: finish the chunk, write a checkpoint, stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether somebody asked the run to stop, and how."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.exit_code = 0

    def ask(self, reason: str, exit_code: int) -> None:
        """Request a stop; the first reason counts."""
        if self.reason is None:
            self.reason, self.exit_code = reason, exit_code


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT for the time of a run (main thread only); a second Ctrl-C interrupts at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.ask(signal.Signals(number).name, 128 + number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
