"""``bias.npz``: the bias that a run leaves, on its backbone torsions or other variables, and what it was while it grew.

Why a history: a frame of time t that was sampled while a bias grew weighs exp[(V(s, t) - c(t)) / kT] (Tiwary and
Parrinello 2015), and neither V nor c of that time can be told from the final grid. V(s, t) of every frame is in the
run's log; c(t) after every hill is here.

Symbols: V -> ``grid`` (final); c -> ``HillHistory.offset``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.errors import InputError, MissingError
from mlsim.runs.coordinate import CIRCLE, Axis

FILE = "bias.npz"
#: Largest file that is opened, bytes unpacked: more residues and hills than any run leaves.
_LARGEST = 2 * 1024**3
_HISTORY = ("hill_step", "hill_height", "offset")


@dataclass(frozen=True)
class HillHistory:
    """What a growing bias was at every time, as far as reweighting needs it.

    Attributes
    ----------
    step : int64 [H]
        Step of each hill, rising.
    height : [H, R]
        Height of the hill of each residue, kJ/mol.
    offset : [H]
        c(t) from this hill to the next, kJ/mol.
    """

    step: NDArray[np.int64]
    height: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def empty(cls, residues: int) -> HillHistory:
        """No hill yet."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, residues)), np.zeros(0))

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]]) -> HillHistory | None:
        """The history among the arrays of a checkpoint or bias file; None if an older version wrote none."""
        if not set(_HISTORY) <= set(arrays):
            return None
        step, height, offset = (np.asarray(arrays[name]) for name in _HISTORY)
        return cls(step.astype(np.int64), height.astype(np.float64), offset.astype(np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays to store."""
        return dict(zip(_HISTORY, (self.step, self.height, self.offset), strict=True))

    def before(self, step: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What acted while the frames of these steps [F] were sampled.

        Returns
        -------
        offset : [F]
            c(t) without a hill of the very step, kJ/mol.
        own : [F]
            Height of that hill, kJ/mol: the bias that is logged after it is higher by this at its own frame.
        """
        index = np.searchsorted(self.step, step, side="left")
        offset = np.concatenate([[0.0], self.offset])[index]
        heights = np.concatenate([self.height.sum(axis=1), [0.0]])
        own = np.where(np.append(self.step, -1)[index] == step, heights[index], 0.0)
        return offset, own


@dataclass(frozen=True)
class SavedBias:
    """Contents of ``bias.npz``.

    Attributes
    ----------
    grid : [R, G, G], or [1, G] or [1, G, H] of a bias on ``variables``
        Bias of each residue, kJ/mol, axes (phi, psi); point g of an axis lies at -pi + 2 pi g / G.
    residues : tuple of str
        Residue of each grid, name and number (``ALA2``).
    grown : bool
        Whether the bias grew during the run.
    history : HillHistory or None
        Of a bias that grew; None if an older version wrote none.
    variables : tuple of str
        Collective variables that the bias is on; empty for the backbone torsions of every residue.
    axes : tuple of Axis
        Range of each axis of a grid.
    """

    grid: NDArray[np.float64]
    residues: tuple[str, ...]
    grown: bool
    history: HillHistory | None
    variables: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = (CIRCLE, CIRCLE)

    def arrays(self, bias_factor: float) -> dict[str, NDArray[Any]]:
        """As arrays to store; ``bias_factor`` NaN for a bias that does not grow."""
        made: dict[str, NDArray[Any]] = {
            "grid": self.grid,
            "residues": np.array(self.residues),
            "bias_factor": np.array(bias_factor),
        }
        if self.variables:
            made["variables"] = np.array(self.variables)
            made["ranges"] = np.array([[axis.low, axis.high, float(axis.periodic)] for axis in self.axes])
        return made if self.history is None else made | self.history.arrays()

    @classmethod
    def load(cls, path: Path) -> SavedBias:
        """Read a bias file.

        Raises
        ------
        MissingError, InputError
            No such file, or not a bias file.
        """
        if not path.is_file():
            raise MissingError(f"{path}: no such file; expected the bias.npz of a run")
        try:
            arrays = limits.arrays(path, _LARGEST)
            grid = np.array(arrays["grid"], dtype=np.float64)
            residues = tuple(str(name) for name in arrays["residues"])
            grown = bool(np.isfinite(float(arrays["bias_factor"])))
            history = HillHistory.read(arrays) if grown else None
            variables = tuple(str(name) for name in arrays.get("variables", ()))
            axes: tuple[Axis, ...] = (CIRCLE, CIRCLE)
            if variables:
                axes = tuple(Axis(float(low), float(high), bool(p)) for low, high, p in arrays["ranges"])
        except KeyError as error:
            raise InputError(f"{path}: not a bias file of mlsim (it has no {error})") from None
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: not a bias file of mlsim ({' '.join(str(error).split())})") from None
        if variables:
            _require_variables(path, grid, variables, axes)
        else:
            _require_squares(path, grid, residues)
        _require_history(path, grid, history)
        return cls(grid, residues, grown, history, variables, axes)


def _require_variables(
    path: Path, grid: NDArray[np.float64], variables: tuple[str, ...], axes: tuple[Axis, ...]
) -> None:
    if len(grid) != 1 or grid.ndim != 1 + len(variables) or len(axes) != len(variables) or min(grid.shape[1:]) < 4:
        raise InputError(f"{path}: expected one grid with an axis for each of {' '.join(variables)}")
    if not all(np.isfinite([axis.low, axis.high]).all() and axis.span > 0 for axis in axes):
        raise InputError(f"{path}: expected a range of every variable")


def _require_squares(path: Path, grid: NDArray[np.float64], residues: tuple[str, ...]) -> None:
    if grid.ndim != 3 or grid.shape[1] != grid.shape[2] or grid.shape[1] < 4 or len(grid) != len(residues):
        raise InputError(
            f"{path}: expected one square grid [G, G], G >= 4, for each of {len(residues)} residues, "
            f"got shape {list(grid.shape)}"
        )


def _require_history(path: Path, grid: NDArray[np.float64], history: HillHistory | None) -> None:
    if not np.isfinite(grid).all():
        raise InputError(f"{path}: the bias has values that are not finite")
    if history is None:
        return
    hills = len(history.step)
    if history.height.shape != (hills, len(grid)) or history.offset.shape != (hills,):
        raise InputError(f"{path}: expected heights [{hills}, {len(grid)}] and offsets [{hills}] of {hills} hills")
    if (np.diff(history.step) <= 0).any():
        raise InputError(f"{path}: expected hills at rising steps")
