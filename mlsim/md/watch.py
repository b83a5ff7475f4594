"""Who looks on while molecules move: observers, a progress bar, and whoever may ask for a stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlsim.md.observers.contract import Observer
from mlsim.md.signals import Progress, StopRequest


@dataclass(frozen=True)
class Watch:
    """What is told of a run and may end it, and decides nothing of its trajectory.

    Attributes
    ----------
    observers : sequence of Observer
        E.g. the recorder of force labels.
    progress : Progress or None
        Counts steps.
    stop : StopRequest
        Asked now and then.
    """

    observers: Sequence[Observer] = ()
    progress: Progress | None = None
    stop: StopRequest = field(default_factory=StopRequest)
