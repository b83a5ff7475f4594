"""What every OpenMM callback needs: positions without delay, and its exception without loss.

OpenMM turns whatever a Python callback raises into a bare ``OpenMMException``: type, traceback and even
KeyboardInterrupt are lost. A callback stashes its exception here first; the runner takes it back and raises that.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

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


_POSITIONS = openmm.State.Positions


def read_positions(state: openmm.State, out: NDArray[np.float64]) -> None:
    """Write the positions of ``state`` (nm) into ``out`` [N, 3], C-contiguous.

    OpenMM's method without units takes 0.5 us where ``getPositions`` takes 8; where a version does not have it, the
    public one is used.
    """
    quick: Any = getattr(state, "_getVectorAsNumpy", None)
    if quick is None:
        out[...] = state.getPositions(asNumpy=True)._value
    else:
        quick(_POSITIONS, out)
