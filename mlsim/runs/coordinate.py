"""A collective variable as a formula of atoms, on a range: what a bias acts on, and how its grid is laid out.

A :class:`Coordinate` is said without any program: a formula of the centres of mass of groups of atoms, in the words
that OpenMM reads (``distance(g1, g2)``, ``angle(g1, g2, g3)``, ``dihedral(g1, g2, g3, g4)`` and arithmetic with them).
:mod:`mlsim.potentials.biases.variable_bias` turns it into a force. An :class:`Axis` is its range with grid points:
n points of a periodic one at low + (high - low) g / n, of another one at low + (high - low) g / (n - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """Range of one collective variable, in its unit."""

    low: float = -np.pi
    high: float = np.pi
    periodic: bool = True

    @property
    def span(self) -> float:
        """Length of the range."""
        return self.high - self.low

    def points(self, count: int) -> Floats:
        """Positions of ``count`` grid points."""
        return self.low + self.span * np.arange(count) / (count if self.periodic else count - 1)

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range (of a periodic variable: always)."""
        return self.periodic or self.low <= value <= self.high

    def bump(self, centre: float, count: int, width: float) -> Floats:
        """Gaussian of height 1 and standard deviation ``width`` at the grid points."""
        distance = self.points(count) - centre
        if self.periodic:
            distance = (distance + 0.5 * self.span) % self.span - 0.5 * self.span
        return np.asarray(np.exp(-0.5 * (distance / width) ** 2))

    def cell(self, value: float, count: int) -> tuple[int, int, float]:
        """Grid points on both sides of a value, and how far it is from the first to the second (0 to 1)."""
        if self.periodic:
            place = (value - self.low) / self.span * count
            first = int(np.floor(place))
            return first % count, (first + 1) % count, place - first
        place = float(np.clip((value - self.low) / self.span, 0.0, 1.0)) * (count - 1)
        first = min(int(np.floor(place)), count - 2)
        return first, first + 1, place - first


#: Of an angle.
CIRCLE = Axis()


@dataclass(frozen=True)
class Coordinate:
    """A collective variable that a bias can act on.

    Attributes
    ----------
    name : str
        As users ask for it, e.g. ``distance:1.CA,5.CA``.
    formula : str
        Of the centres ``g1``, ``g2`` ..., one for each of ``groups``, or of their coordinates ``x1``, ``y1``, ``z1``.
    groups : tuple of (tuple of int)
        Atoms of each centre, which is their centre of mass.
    axis : Axis
        Range; beyond that of a variable that is not periodic the bias is constant, and no hill is put there.
    width : float
        Standard deviation of a hill unless the user says another one.
    """

    name: str
    formula: str
    groups: tuple[tuple[int, ...], ...]
    axis: Axis
    width: float
