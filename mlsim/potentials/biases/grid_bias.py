"""What every bias on a grid shares: growth by well-tempered metadynamics, its history, checkpoint and file.

A bias has one or several grids V_r, each over the same one or two axes, and is their sum. Well-tempered metadynamics
(Barducci, Bussi, Parrinello 2008) adds

    V(s) += h exp(-V(s_t) / (kB T (gamma - 1))) exp(-|s - s_t|^2 / (2 w^2))

every ``interval`` steps; V converges to -(1 - 1/gamma) F(s). A fixed grid never grows, so frames are reweighted exactly
by exp(+V / kT). Under a growing one a frame of time t weighs exp[(V(s, t) - c(t)) / kT] with the constant of Tiwary and
Parrinello (2015),

    c(t) = sum_r kT ln { int exp[gamma V_r / ((gamma - 1) kT)] ds / int exp[V_r / ((gamma - 1) kT)] ds }

which needs the bias of that time. So the heights of all hills and c after each are kept (``HillHistory``), are part of
every checkpoint, and are saved with the final grid.

symbol -> variable: h -> height_kJ_mol, gamma -> bias_factor, w -> widths, V -> grid, c -> offset.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Continuous1DFunction, Continuous2DFunction, System

from mlsim.files import write_npz
from mlsim.runs.bias_file import HillHistory, SavedBias
from mlsim.runs.coordinate import Axis
from mlsim.units import kT

#: Force group of the bias, apart from the physical forces (group 0).
BIAS_GROUP = 30
#: Points of a periodic axis beyond each end, where the other axis is not periodic: the spline forgets its end by then.
_BEYOND = 12


@dataclass(frozen=True)
class Tempering:
    """How a well-tempered bias grows."""

    height_kJ_mol: float = 1.0
    width_rad: float = 0.35
    bias_factor: float = 6.0
    interval_steps: int = 500


class GridBias(ABC):
    """The bias of one run: puts its force into a System, and (if it grows) deposits hills as an observer.

    Parameters
    ----------
    axes : tuple of Axis
        Of every grid, one or two.
    grid : float64 [R, G] or [R, G, H], kJ/mol
        Start values of R grids.
    temperature_K : float
    tempering : Tempering or None
        ``None`` keeps the grid fixed.
    widths : sequence of float
        Standard deviation of a hill along each axis.
    """

    name = "bias"

    def __init__(
        self,
        axes: tuple[Axis, ...],
        grid: NDArray[np.float64],
        temperature_K: float,
        tempering: Tempering | None,
        widths: Sequence[float],
    ) -> None:
        self.axes, self.widths = axes, tuple(widths)
        self.grid = np.array(grid, dtype=np.float64)
        self.tempering = tempering
        self._temperature_K = temperature_K
        self._forces: list[Any] = []
        self._known: HillHistory | None = HillHistory.empty(len(grid))  # None: resumed from a checkpoint without one
        self._hills: list[tuple[int, list[float], float]] = []

    @abstractmethod
    def add_to(self, system: System, copies: int = 1) -> None:
        """Add the bias force (group ``BIAS_GROUP``), on each of ``copies`` equal shares of the particles."""

    @abstractmethod
    def values(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Collective variables of every grid [R, D] at positions [N, 3] (nm)."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """JSON-able record: the growth, or the digest of a fixed grid."""

    @abstractmethod
    def saved(self) -> SavedBias:
        """What its file says."""

    def energy(self, context: Context) -> float:
        """Bias energy at the present positions, kJ/mol."""
        return float(context.getState(getEnergy=True, groups={BIAS_GROUP}).getPotentialEnergy()._value)

    # ---- observer ----

    @property
    def interval(self) -> int:
        """Steps between hills (0: the bias does not grow)."""
        return self.tempering.interval_steps if self.tempering else 0

    def open(self, directory: Path) -> tuple[()]:
        """No output of its own; the grid is saved at the end and in every checkpoint."""
        return ()

    def observe(self, step: int, context: Context) -> None:
        """Deposit one hill per grid at the present values."""
        if self.tempering is None:
            return
        positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        heights = [self._deposit(r, [float(v) for v in values]) for r, values in enumerate(self.values(positions))]
        self._hills.append((step, heights, self.offset()))
        self._upload(context)

    def state(self) -> dict[str, NDArray[Any]]:
        """The grid, and of a growing bias its history."""
        history = self.history
        return {"grid": self.grid, **(history.arrays() if self.tempering is not None and history is not None else {})}

    def restore(self, arrays: dict[str, NDArray[Any]], context: Context) -> None:
        """Go on with a checkpointed grid and its history."""
        self.grid = np.array(arrays["grid"])
        self._known, self._hills = HillHistory.read(arrays), []
        self._upload(context)

    @property
    def history(self) -> HillHistory | None:
        """Hills so far; None if an older version, which kept none, began the run."""
        if self._known is None or not self._hills:
            return self._known
        steps, heights, offsets = zip(*self._hills, strict=True)
        self._known = HillHistory(
            np.concatenate([self._known.step, np.array(steps, dtype=np.int64)]),
            np.concatenate([self._known.height, np.array(heights)]),
            np.concatenate([self._known.offset, np.array(offsets)]),
        )
        self._hills = []
        return self._known

    def offset(self) -> float:
        """c(t) of the present grid, kJ/mol (0 for one that does not grow)."""
        if self.tempering is None:
            return 0.0
        return offset_of(self.grid, self.tempering.bias_factor, self._temperature_K)

    def save(self, path: Path) -> None:
        """Write the grid, how it was made, and the history of one that grew (``.npz``), whole or not at all."""
        factor = self.tempering.bias_factor if self.tempering else np.nan
        write_npz(path, self.saved().arrays(factor) | {"temperature_K": np.array(self._temperature_K)})

    def _deposit(self, number: int, values: Sequence[float]) -> float:
        """Add one hill to a grid; its height, kJ/mol (0 outside the range)."""
        assert self.tempering is not None
        grid = self.grid[number]
        if not all(axis.holds(value) for axis, value in zip(self.axes, values, strict=True)):
            return 0.0
        here = _interpolate(grid, self.axes, values)
        scale = kT(self._temperature_K) * (self.tempering.bias_factor - 1.0)
        height = self.tempering.height_kJ_mol * np.exp(-here / scale)
        along = zip(self.axes, values, grid.shape, self.widths, strict=True)
        grid += height * reduce(np.multiply.outer, [axis.bump(value, n, width) for axis, value, n, width in along])
        return float(height)

    def _upload(self, context: Context) -> None:
        for force, grid in zip(self._forces, self.grid, strict=True):
            sizes, values, ranges, _ = _tabulated(grid, self.axes)
            force.getTabulatedFunction(0).setFunctionParameters(*([] if len(sizes) == 1 else sizes), values, *ranges)
            force.updateParametersInContext(context)


def offset_of(grid: NDArray[np.float64], bias_factor: float, temperature_K: float) -> float:
    """c(t) of a well-tempered bias [R, ...], kJ/mol: the sum over its grids."""
    unit = kT(temperature_K)
    flat = grid.reshape(len(grid), -1) / (unit * (bias_factor - 1.0))
    return float(unit * (_log_mean_exp(bias_factor * flat) - _log_mean_exp(flat)).sum())


def table_of(grid: NDArray[np.float64], axes: tuple[Axis, ...]) -> Continuous1DFunction | Continuous2DFunction:
    """A grid [G] or [G, H] as a cubic spline of OpenMM."""
    sizes, values, ranges, periodic = _tabulated(grid, axes)
    if len(sizes) == 1:
        return Continuous1DFunction(values, *ranges, periodic)
    return Continuous2DFunction(*sizes, values, *ranges, periodic)


def _tabulated(
    grid: NDArray[np.float64], axes: tuple[Axis, ...]
) -> tuple[tuple[int, ...], NDArray[np.float64], list[float], bool]:
    """Sizes, values (the first axis runs fastest), ends of every axis, and whether OpenMM closes the circle itself."""
    closed = all(axis.periodic for axis in axes)
    pads, ranges = [], []
    for axis, count in zip(axes, grid.shape, strict=True):
        before, after = ((0, 1) if closed else (_BEYOND, _BEYOND + 1)) if axis.periodic else (0, 0)
        pads.append((before, after))
        step = axis.span / count
        ranges += [axis.low - before * step, axis.high + (after - 1) * step] if after else [axis.low, axis.high]
    whole: NDArray[np.float64] = np.pad(grid, pads, mode="wrap")
    return whole.shape, whole.T.ravel(), ranges, closed


def _interpolate(grid: NDArray[np.float64], axes: tuple[Axis, ...], values: Sequence[float]) -> float:
    """Linear between the grid points (enough to scale a hill)."""
    cells = [axis.cell(value, n) for axis, value, n in zip(axes, values, grid.shape, strict=True)]
    if len(cells) == 1:
        ((i0, i1, a),) = cells
        return float((1 - a) * grid[i0] + a * grid[i1])
    (i0, i1, a), (j0, j1, b) = cells
    return float(
        (1 - a) * ((1 - b) * grid[i0, j0] + b * grid[i0, j1]) + a * ((1 - b) * grid[i1, j0] + b * grid[i1, j1])
    )


def _log_mean_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln of the mean of exp along the last axis."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(values - top).mean(axis=-1)))
