"""Quantities of ``compare`` by name, beside those that every row has: numbers of two surfaces on one grid.

What: ``compare ... --quantity overlap`` adds a column. A :class:`Quantity` gets the reference, the candidate and the
mask of the compared bins, and returns a number with its interval; without one where it is what was observed and noise
alone moves it (``Estimate.unbounded``). Other packages add theirs by entry points of the group ``mlsim.quantities``.

    overlap    sum_b min(p_b, q_b), the share of the population that both have in the same bins; noise lowers it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.analysis.uncertainty import Estimate
from mlsim.errors import InputError
from mlsim.names import Registry


@dataclass(frozen=True)
class Quantity:
    """A number of a candidate against a reference.

    Attributes
    ----------
    heading : str
        Of its column, with the unit.
    unit : str
        Behind its name in JSON (``kJ_mol``, ``nats``); empty for a number without one.
    value : callable
        ``value(reference, candidate, mask)`` -> Estimate. Both surfaces have the same bins; ``mask`` [bins, ...] are
        those with a low free energy of the reference.
    digits : int
        Decimals in the table.
    """

    heading: str
    unit: str
    value: Callable[[FreeEnergySurface, FreeEnergySurface, np.ndarray], Estimate]
    digits: int = 3


@dataclass(frozen=True)
class Measured:
    """A quantity of one row."""

    name: str
    quantity: Quantity
    estimate: Estimate


def _overlap(reference: FreeEnergySurface, candidate: FreeEnergySurface, mask: np.ndarray) -> Estimate:
    return Estimate.unbounded(float(np.minimum(reference.probability, candidate.probability).sum()))


QUANTITIES: Registry[Quantity] = Registry(
    "quantity of compare",
    "mlsim.quantities",
    {"overlap": Quantity("overlap", "", _overlap)},
    lambda found: isinstance(found, Quantity),
    "a mlsim.analysis.quantities.Quantity",
)


def chosen(names: Sequence[str]) -> dict[str, Quantity]:
    """The quantities of these names.

    Raises
    ------
    InputError
        For an unknown name (with all names and a suggestion), or one that is given twice.
    """
    if len(set(names)) < len(names):
        raise InputError(f"quantities {', '.join(names)}: expected every name once")
    return {name: QUANTITIES.get(name) for name in names}


def measured(
    quantities: dict[str, Quantity], reference: FreeEnergySurface, candidate: FreeEnergySurface, mask: np.ndarray
) -> tuple[Measured, ...]:
    """Every quantity of one candidate.

    Raises
    ------
    InputError
        If one does not give an estimate.
    """
    found = []
    for name, quantity in quantities.items():
        estimate = quantity.value(reference, candidate, mask)
        if not isinstance(estimate, Estimate):
            raise InputError(f"quantity '{name}': expected a mlsim.analysis.uncertainty.Estimate, got {estimate!r}")
        found.append(Measured(name, quantity, estimate))
    return tuple(found)
