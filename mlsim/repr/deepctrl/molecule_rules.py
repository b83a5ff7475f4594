"""Rules that a predicted conformation of a molecule must obey: bonds, clashes, energy; and trends with temperature.

Conformations are rows [B, 3 N] (nm, atom by atom), the form in which networks take and give them:

    bond bounds        max over bonds |d - d_0| / d_0      <= tolerance
    no clash           max over pairs (d_min - d) / d_min   <= 0
    energy             U(y) - U(x)                          <= allowance         (a relaxation never climbs)
    trend              y(T + dT) >= y(T)                    by perturbation      (a mean energy grows with T)

Why the largest breach and not the sum: the rule is kept or broken by the worst bond, and a ratio over conformations
needs one answer per conformation. The gradient reaches the worst pair of each conformation, a different one in turn.

Symbols: d_0 ``lengths``, d_min ``closest``, U ``energy``, T column ``column``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlsim.errors import InputError
from mlsim.repr.deepctrl.rules import All, Inequality, Perturbation, raised
from mlsim.shapes import Floats, Ints, require_shape

#: Distance below which two atoms clash, by how many of them are no hydrogen.
_CLOSEST_NM = (0.16, 0.20, 0.24)


def bond_bounds(pairs: Ints, lengths: Floats, tolerance: float) -> Inequality:
    """Every bond is within a share of its usual length.

    Parameters
    ----------
    pairs : int [P, 2]
        Atoms of each bond.
    lengths : [P], nm
        Usual lengths d_0.
    tolerance : float
        Largest relative deviation.
    """
    first, second = _pairs(pairs)
    usual = _lengths(lengths, len(first))
    return Inequality(
        lambda x, y: ((distances(y, first, second) - usual) / usual).abs().amax(1), _positive(tolerance, "tolerance")
    )


def no_clash(pairs: Ints, closest: Floats) -> Inequality:
    """No pair is nearer than its smallest distance.

    Parameters
    ----------
    pairs : int [P, 2]
        Pairs to watch (not bonded ones).
    closest : [P], nm
        Smallest distance d_min of each.
    """
    first, second = _pairs(pairs)
    least = _lengths(closest, len(first))
    return Inequality(lambda x, y: ((least - distances(y, first, second)) / least).amax(1))


def sound_geometry(bonds: Ints, elements: Sequence[str], positions: Floats, tolerance: float = 0.1) -> All:
    """Bonds near their mean lengths and no clashes between atoms that are three or more bonds apart.

    Parameters
    ----------
    bonds : int [P, 2]
    elements : sequence of str, length N
    positions : [F, N, 3], nm
        Frames that the usual bond lengths are taken from.
    tolerance : float
        Largest relative deviation of a bond.

    Notes ----- Two atoms clash below 0.16 nm (both hydrogen), 0.20 nm (one) or 0.24 nm (none). Both kinds of breach are
    relative lengths and are added.
    """
    frames = require_shape(positions, (None, len(elements), 3), "positions (nm)")
    first, second = (index.numpy() for index in _pairs(bonds))
    usual = np.linalg.norm(frames[:, first] - frames[:, second], axis=2).mean(0)
    near = np.zeros((len(elements), len(elements)), dtype=np.int64)
    near[first, second] = near[second, first] = 1
    row, other = np.nonzero(np.triu(near + near @ near == 0, 1))
    heavy = np.array([element != "H" for element in elements], dtype=np.int64)
    closest = np.array(_CLOSEST_NM)[heavy[row] + heavy[other]]
    clash = no_clash(np.stack([row, other], axis=1), closest)
    return All([bond_bounds(bonds, usual, tolerance), clash], [1.0, 1.0])


def energy_non_increase(energy: Callable[[Tensor], Tensor], unit: float, allowance: float = 0.0) -> Inequality:
    """The predicted conformation is not higher in energy than the given one.

    Parameters
    ----------
    energy : callable, positions [B, N, 3] (nm) -> [B] (kJ/mol), differentiable
        For example a :class:`mlsim.models.contract.BoundEnergy`.
    unit : float
        Violations are counted in this many kJ/mol, for a loss of order one.
    allowance : float
        Rise that is no violation, kJ/mol.
    """
    _positive(unit, "unit")

    def rise(x: Tensor, y: Tensor) -> Tensor:
        before, after = (z.reshape(len(z), -1, 3) for z in (x[:, : y.shape[1]], y))
        return (energy(after) - energy(before)) / unit

    return Inequality(rise, allowance / unit)


def grows_with(column: int, largest_step: float, output: int = 0) -> Perturbation:
    """The prediction does not fall when input ``column`` grows by up to ``largest_step`` (in its own unit)."""
    return Perturbation(raised(column, 1.0, _positive(largest_step, "largest_step")), "up", output)


def distances(flat: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Distances [B, P] (nm) of pairs of atoms in conformations [B, 3 N]."""
    positions = flat.reshape(len(flat), -1, 3)
    difference = positions[:, first] - positions[:, second]
    return (difference.square().sum(-1) + 1e-12).sqrt()


def _pairs(pairs: Any) -> tuple[Tensor, Tensor]:
    array = np.asarray(pairs)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0 or array.dtype.kind not in "iu" or array.min() < 0:
        raise InputError(f"pairs: expected integers of shape [P, 2], at least one pair, got {array.shape}")
    index = torch.from_numpy(array.astype(np.int64))
    return index[:, 0], index[:, 1]


def _lengths(values: Any, count: int) -> Tensor:
    checked = require_shape(values, (count,), "lengths (nm)")
    if checked.min() <= 0:
        raise InputError("lengths (nm): expected positive numbers")
    return torch.tensor(checked, dtype=torch.float32)


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise InputError(f"{name}: expected a positive number, got {value}")
    return value
