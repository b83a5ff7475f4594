"""Trained filters as a table of the distance: the compressed form of a continuous-filter network.

After training, the filter network of a block is a vector function of one number. It costs 50 times more than the rest
of a pair; a table replaces it. Value and derivative are kept at the nodes of an even grid, and between two nodes

    W(d) = c0 + t (c1 + t (c2 + t c3)),     d = (k + t) s,  0 <= t < 1
    c0 = y_k        c2 = 3 (y_k+1 - y_k) - 2 s y'_k - s y'_k+1
    c1 = s y'_k     c3 = 2 (y_k - y_k+1) +   s y'_k + s y'_k+1              (cubic Hermite)

W and its derivative are continuous across nodes, and value and slope come from the same polynomial, so forces remain
the exact gradient of the tabulated energy and energy is conserved whatever the grid; the grid only decides how close
this energy is to the trained one. The error falls with the fourth (value) and third (slope) power of s.

The number of intervals is the smallest power of two whose slope error is below ``SLOPE_TOLERANCE``. At the cutoff
value and slope are exactly zero. A grid even in d^2 was tried: it needs no square root, but 4 times the intervals for
the same error, because the filters vary on the scale of their radial functions, which are even in d.

Symbols: s ``spacing_nm``, y ``values``, y' ``slopes``, c ``coefficients``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.errors import ArtifactError

if TYPE_CHECKING:
    from mlsim.models.contract import AbstractEnergyModel

#: Largest accepted root-mean-square error of the filters' slopes, relative to their root mean square.
SLOPE_TOLERANCE = 1e-5
#: Errors are measured beyond this distance, nm; no two atoms come closer (the shortest bond is 0.096 nm).
CLOSEST = 0.05
#: Some radial functions cannot be evaluated at zero; nearer than this (nm) filters are continued as straight lines.
_NEAREST = 1e-5
#: Grids that are tried, intervals.
GRIDS = (128, 256, 512, 1024, 2048)
#: Largest file that is read, bytes unpacked.
_LARGEST = 1024 * limits.MEGABYTE


@dataclass(frozen=True)
class TableError:
    """Distance of a table from the filters it was made from, at three points of every interval beyond ``CLOSEST``.

    Attributes
    ----------
    value, slope : float
        Root-mean-square error relative to the root mean square of the filters (their slopes).
    value_max, slope_max : float
        Largest error relative to the same.
    """

    value: float
    value_max: float
    slope: float
    slope_max: float


@dataclass(frozen=True, eq=False)
class FilterTable:
    """Filters of all blocks at the nodes of an even grid from 0 to the cutoff.

    Attributes
    ----------
    values : float64 [L, K + 1, F]
    slopes : float64 [L, K + 1, F], 1/nm
    cutoff_nm : float
    """

    values: NDArray[np.float64]
    slopes: NDArray[np.float64]
    cutoff_nm: float

    @property
    def intervals(self) -> int:
        """Number K of intervals."""
        return self.values.shape[1] - 1

    @property
    def spacing_nm(self) -> float:
        """Distance between nodes, nm."""
        return self.cutoff_nm / self.intervals

    def coefficients(self) -> NDArray[np.float64]:
        """Polynomial coefficients [L, K, 4, F] of ascending powers of t."""
        y, rise = self.values, self.slopes * self.spacing_nm
        step = y[:, 1:] - y[:, :-1]
        left, right = rise[:, :-1], rise[:, 1:]
        return np.stack([y[:, :-1], left, 3.0 * step - 2.0 * left - right, left + right - 2.0 * step], axis=2)

    def at(self, distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values and slopes (1/nm), each [L, D, F], at ``distances`` [D], nm."""
        place = np.clip(distances / self.spacing_nm, 0.0, self.intervals)
        cell = np.minimum(place.astype(np.int64), self.intervals - 1)
        t = (place - cell)[:, None]
        c0, c1, c2, c3 = np.moveaxis(self.coefficients()[:, cell], 2, 0)
        return c0 + t * (c1 + t * (c2 + t * c3)), (c1 + t * (2.0 * c2 + 3.0 * t * c3)) / self.spacing_nm

    def save(self, path: Path) -> None:
        """Write ``.npz`` (float32 nodes: rounding them moves the function, not its consistency)."""
        np.savez(path, **self.arrays())  # type: ignore[arg-type]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The table as it is stored, by name."""
        return {
            "values": self.values.astype(np.float32),
            "slopes": self.slopes.astype(np.float32),
            "cutoff_nm": np.array(self.cutoff_nm, dtype=np.float64),
        }

    @classmethod
    def load(cls, path: Path) -> FilterTable:
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises
        ------
        ArtifactError
            If the file is no such table.
        """
        try:
            return cls.read(limits.file_bytes(path, _LARGEST), path)
        except (OSError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"{path}: not a filter table ({' '.join(str(error).split())})") from None

    @classmethod
    def read(cls, content: bytes, path: Path) -> FilterTable:
        """Read the content of a file called ``path``, which messages name.

        Raises
        ------
        ArtifactError
            If it is no such table.
        """
        try:
            file = limits.arrays(content, _LARGEST)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: not a filter table ({' '.join(str(error).split())})") from None
        return cls.of(file, path)

    @classmethod
    def of(cls, file: Mapping[str, NDArray[Any]], path: Path) -> FilterTable:
        """The table of stored arrays; errors as :meth:`read`."""
        try:
            values, slopes = file["values"].astype(np.float64), file["slopes"].astype(np.float64)
            cutoff = float(file["cutoff_nm"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: not a filter table ({' '.join(str(error).split())})") from None
        if values.ndim != 3 or values.shape != slopes.shape or values.shape[1] < 2 or not 0.0 < cutoff < np.inf:
            raise ArtifactError(f"{path}: not a filter table: values {values.shape}, slopes {slopes.shape}")
        if not (np.isfinite(values).all() and np.isfinite(slopes).all()):
            raise ArtifactError(f"{path}: holds NaN or infinity; export the force field again")
        return cls(values, slopes, cutoff)


def tabulate(model: AbstractEnergyModel, intervals: int | None = None) -> FilterTable:
    """Tabulate the filters of a trained network.

    Parameters
    ----------
    model : AbstractEnergyModel
        With ``filters(distance [K]) -> [L, K, F]`` and ``config.cutoff_nm``; any dtype (evaluated in float64).
    intervals : int, optional
        Grid; by default the smallest of ``GRIDS`` that meets ``SLOPE_TOLERANCE``, else the finest.
    """
    if intervals is not None:
        return _tabulate(model, intervals)
    for count in GRIDS:
        table = _tabulate(model, count)
        if error(table, model).slope <= SLOPE_TOLERANCE:
            break
    return table


def error(table: FilterTable, model: AbstractEnergyModel) -> TableError:
    """How far ``table`` is from the filters of ``model``."""
    places = (np.arange(table.intervals)[:, None] + np.array([0.25, 0.5, 0.75])).ravel() * table.spacing_nm
    places = places[places > CLOSEST]
    values, slopes = _filters(model, places)
    value, slope = table.at(places)
    dv, ds = value - values, slope - slopes
    v, s = np.sqrt(np.mean(values**2)), np.sqrt(np.mean(slopes**2))
    return TableError(
        float(np.sqrt(np.mean(dv**2)) / v),
        float(np.abs(dv).max() / v),
        float(np.sqrt(np.mean(ds**2)) / s),
        float(np.abs(ds).max() / s),
    )


def _tabulate(model: AbstractEnergyModel, intervals: int) -> FilterTable:
    cutoff = float(model.config.cutoff_nm)  # type: ignore[attr-defined]
    values, slopes = _filters(model, np.linspace(0.0, cutoff, intervals + 1))
    values[:, -1], slopes[:, -1] = 0.0, 0.0
    return FilterTable(values, slopes, cutoff)


def _filters(
    model: AbstractEnergyModel, distances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filters and their derivatives, each [L, D, F], in float64."""
    import copy

    import torch

    exact: Any = copy.deepcopy(model).to("cpu", torch.float64).eval()
    nodes = torch.as_tensor(np.maximum(distances, _NEAREST), dtype=torch.float64)
    with torch.no_grad():
        values, slopes = torch.func.jvp(exact.filters, (nodes,), (torch.ones_like(nodes),))
    step = (distances - nodes.numpy())[:, None]  # zero but for the node at the origin
    return values.numpy() + step * slopes.numpy(), slopes.numpy()
