"""Observer: something that looks at, or acts on, a running simulation at fixed step intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from openmm import Context

from mlsim.runs.streams import Stream


class Observer(Protocol):
    """Called after every ``interval`` steps; what it must remember goes into the checkpoint.

    ``name`` is unique within a run; ``streams`` are its append-only outputs, which the run cuts back on resume
    *before* ``open`` is called.
    """

    @property
    def name(self) -> str:
        """Key of this observer's state in the checkpoint."""

    @property
    def interval(self) -> int:
        """Steps between calls."""

    def open(self, directory: Path) -> tuple[Stream, ...]:
        """Open the outputs for appending and return them."""

    def observe(self, step: int, context: Context) -> None:
        """Look or act at ``step``."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays to store in the checkpoint."""

    def restore(self, arrays: dict[str, NDArray[Any]], context: Context) -> None:
        """Take up the state of a checkpoint."""


@runtime_checkable
class Summarised(Protocol):
    """An observer with something to say at the end; it goes into ``run.json`` under the observer's name."""

    @property
    def name(self) -> str:
        """Key in ``run.json``."""

    def summary(self) -> dict[str, Any]:
        """What it found, JSON-able."""
