"""The original exception behind an OpenMM callback.

OpenMM turns whatever a Python callback raises into a bare ``OpenMMException``: type, traceback and even
KeyboardInterrupt are lost. A callback stashes its exception here first; the runner takes it back and raises that.
"""

from __future__ import annotations

import threading

_LOCK = threading.Lock()
_PENDING: list[BaseException] = []


def stash(error: BaseException) -> None:
    """Keep the first exception raised inside a callback (later ones are its echoes)."""
    with _LOCK:
        if not _PENDING:
            _PENDING.append(error)


def take() -> BaseException | None:
    """Return the stashed exception, if any, and forget it."""
    with _LOCK:
        return _PENDING.pop() if _PENDING else None
