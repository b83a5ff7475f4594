"""Extrapolation guard: watches whether a run stays where its learned force field was trained.

At every report the distance of the solute to the trained region (:mod:`mlsim.dataset.region`), or the spread of the
committee that travels with the force field, is computed and written to ``guard.csv``; nothing is done between reports.
``report`` counts; ``stop`` also asks the run to stop, at a checkpoint, once it has been outside for ``PATIENCE``
reports in a row: single frames outside are expected, by the definition of the threshold, once in a thousand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from openmm import Context

from mlsim.md.signals import StopRequest
from mlsim.runs.streams import Stream, TableStream
from mlsim.shapes import Floats

#: Reports outside in a row after which ``stop`` stops.
PATIENCE = 10
#: Exit code of a run that was stopped so.
EXIT_CODE = 3
FILE = "guard.csv"


class Region(Protocol):
    """Conformations that a force field knows."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""

    @property
    def threshold(self) -> float:
        """The distance beyond which a conformation is outside."""

    @property
    def column(self) -> str:
        """Name of the distance, with its unit, in tables."""

    @property
    def what(self) -> str:
        """The region in words."""

    def distance(self, positions: Floats) -> NDArray[np.float64]:
        """Distances [F] of conformations [F, N, 3] (nm)."""


class ExtrapolationGuard:
    """Observer of the distance to the trained region.

    Parameters
    ----------
    region : Region
    interval : int
        Steps between looks: those between reports.
    action : {"report", "stop"}
    timestep_ps : float
    stop : StopRequest
        Whom to ask.
    """

    name = "guard"

    def __init__(
        self,
        region: Region,
        interval: int,
        action: Literal["report", "stop"],
        timestep_ps: float,
        stop: StopRequest,
    ) -> None:
        self._region, self._interval, self._action = region, interval, action
        self._timestep_ps, self._stop = timestep_ps, stop
        self._frames = self._outside = self._row = 0
        self._worst, self._worst_ps = 0.0, 0.0

    @property
    def interval(self) -> int:
        """Steps between looks."""
        return self._interval

    def open(self, directory: Path) -> tuple[Stream, ...]:
        """Open ``guard.csv``."""
        self._table = TableStream(directory / FILE, ("step", "time_ps", self._region.column))
        return (self._table,)

    def observe(self, step: int, context: Context) -> None:
        """Look once."""
        positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value[: self._region.n_atoms]
        if not np.isfinite(positions).all():
            return  # the stability check says so, with the atom
        distance = float(self._region.distance(positions[None])[0])
        time_ps = step * self._timestep_ps
        self._table.append((step, time_ps, distance))
        self._frames += 1
        if distance > self._worst:
            self._worst, self._worst_ps = distance, time_ps
        if distance <= self._region.threshold:
            self._row = 0
            return
        self._outside += 1
        self._row += 1
        if self._action == "stop" and self._row >= PATIENCE:
            self._stop.ask(f"left {self._region.what}", EXIT_CODE)

    def summary(self) -> dict[str, Any]:
        """For ``run.json``: fraction of reports outside, and the largest distance in units of the threshold."""
        threshold = self._region.threshold
        return {
            "action": self._action,
            "region": self._region.what,
            "frames": self._frames,
            "fraction_outside": self._outside / self._frames if self._frames else 0.0,
            "worst_distance": self._worst,
            "worst_time_ps": self._worst_ps,
            "threshold": threshold,
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """Counts and the worst frame."""
        return {"counts": np.array([self._frames, self._outside]), "worst": np.array([self._worst, self._worst_ps])}

    def restore(self, arrays: dict[str, NDArray[Any]], context: Context) -> None:
        """Go on counting; a run that had no guard before starts at zero."""
        if arrays:
            self._frames, self._outside = (int(v) for v in arrays["counts"])
            self._worst, self._worst_ps = (float(v) for v in arrays["worst"])
