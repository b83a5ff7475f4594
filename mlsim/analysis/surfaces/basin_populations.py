"""Populations of the basins, each with what is known of it, and their free energies relative to one of them.

What: for every basin its ``Occupancy`` among all frames, and among the frames of itself and PII only: the share
q = p_b / (p_b + p_PII) gives F_b - F_PII = -kT ln [q / (1 - q)] with one interval, whatever the two have in common.
Both need PII and the basin to be entered and left often enough.

Symbols: p -> ``whole``; q -> ``relative``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlsim.analysis import occupancy
from mlsim.analysis.occupancy import LEAST_LENGTH, Occupancy
from mlsim.analysis.surfaces.basins import ORIGIN
from mlsim.analysis.uncertainty import Estimate
from mlsim.shapes import Floats, Ints


@dataclass(frozen=True)
class Populations:
    """Populations of named regions that share all frames.

    Attributes
    ----------
    names : tuple of str
        B regions, ``ORIGIN`` among them.
    whole : tuple of Occupancy [B]
        Each among all frames.
    relative : tuple of Occupancy [B]
        Each among its own frames and those of ``ORIGIN`` (of ``ORIGIN`` itself: as in ``whole``).
    """

    names: tuple[str, ...]
    whole: tuple[Occupancy, ...]
    relative: tuple[Occupancy, ...]

    @classmethod
    def of(cls, region: Ints, names: Sequence[str], weights: Floats, run: Ints) -> Populations:
        """Populations of regions 0 .. B-1, given for each frame [F], with weights and runs [F]."""
        inside = [region == number for number in range(len(names))]
        whole = tuple(occupancy.occupancy(mine, weights, run) for mine in inside)
        origin = names.index(ORIGIN)
        relative = []
        for number, mine in enumerate(inside):
            if number == origin:
                relative.append(whole[origin])
                continue
            share = occupancy.occupancy(mine, weights, run, among=mine | inside[origin])
            both = (whole[number], whole[origin])
            entries, exits = min(b.entries for b in both), min(b.exits for b in both)
            relative.append(replace(share, entries=entries, exits=exits))
        return cls(tuple(names), whole, tuple(relative))

    @classmethod
    def pooled(cls, parts: Sequence[Populations], shares: Floats) -> Populations:
        """Of independent data together, ``shares`` [S] of the frames each."""
        first = parts[0]
        whole = tuple(occupancy.pooled([p.whole[b] for p in parts], shares) for b in range(len(first.names)))
        origin = first.names.index(ORIGIN)
        relative = []
        for b in range(len(first.names)):
            union = np.array([p.whole[b].value + (p.whole[origin].value if b != origin else 0.0) for p in parts])
            weight = shares * union if b != origin else shares
            safe = weight / weight.sum() if weight.sum() > 0.0 else shares
            relative.append(occupancy.pooled([p.relative[b] for p in parts], safe))
        return cls(first.names, whole, tuple(relative))

    def withheld(self, length: float) -> Populations:
        """As these, unless the data are too short: ``length`` is that in correlation times of their slowest basin."""
        if length >= LEAST_LENGTH:
            return self
        whole, relative = (
            tuple(replace(found, length=min(found.length, length)) for found in kind)
            for kind in (self.whole, self.relative)
        )
        return Populations(self.names, whole, relative)

    @property
    def value(self) -> Floats:
        """Populations [B]."""
        return np.array([found.value for found in self.whole])

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Regions whose population the data cannot tell."""
        return tuple(n for n, found in zip(self.names, self.whole, strict=True) if found.verdict != "converged")

    def interval(self, name: str, confidence: float = 0.95) -> Estimate:
        """Population of one region with its interval."""
        return self.whole[self.names.index(name)].interval(confidence)
