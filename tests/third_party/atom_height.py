"""A collective variable that is analysed and biased."""

from __future__ import annotations

from typing import Any

from mlsim.analysis.observables import CollectiveVariable
from mlsim.runs.coordinate import Axis, Coordinate


def _height(positions: Any, topology: Any, observable: Any) -> Any:
    return positions[:, int(observable.selection), 2]


def _height_coordinate(topology: Any, observable: Any) -> Coordinate:
    return Coordinate(observable.text, "z1", ((int(observable.selection),),), Axis(-2.0, 2.0, False), width=0.1)


height = CollectiveVariable(False, "nm", _height, "index of an atom", r"\d+", coordinate=_height_coordinate)
