"""A test density with everything a benchmark may ask of it.

Targets live beside the samplers but below no sampler: nothing in ``mlsim.samplers`` outside this room imports it, so
that samplers keep seeing a callable only, while a target may carry its ``Symmetry``.

Symbols: p ``exp(log_density)``; d ``dimension``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mlsim.errors import InputError
from mlsim.samplers.algorithm import LogDensity
from mlsim.samplers.groups.symmetry import Symmetry

#: (count, generator, dtype) -> particles [count, d].
Draw = Callable[[int, torch.Generator, torch.dtype], torch.Tensor]


@dataclass(frozen=True)
class Target:
    """A density on R^d with its symmetry, a start, and (if there is one) an exact sampler.

    Attributes
    ----------
    name : str
        E.g. ``"dw4"``.
    log_density : callable
        positions [..., d] -> [...], up to a constant; reduced units (kT = 1).
    symmetry : Symmetry
        The group the density is invariant under.
    start : callable
        Draws the initial particles every benchmark begins from.
    exact : callable or None
        Exact independent draws; None where only a long Monte-Carlo reference exists (``reference``).
    has_energy : bool
        Whether -log_density is a physical energy, compared by energy and distance distributions.
    length : float
        Characteristic length: what default step sizes scale with.
    """

    name: str
    log_density: LogDensity
    symmetry: Symmetry
    start: Draw
    exact: Draw | None
    has_energy: bool
    length: float

    @property
    def dimension(self) -> int:
        """Length of a configuration vector."""
        return self.symmetry.dimension

    def draw(self, count: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Exact draws [count, d].

        Raises
        ------
        InputError
            If the target has no exact sampler.
        """
        if self.exact is None:
            raise InputError(f"{self.name}: no exact sampler; use the stored reference")
        return self.exact(count, generator, dtype)


def normal_start(symmetry: Symmetry, spread: float) -> Draw:
    """Independent normal numbers of standard deviation ``spread``, centred if the symmetry is."""

    def draw(count: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        x = torch.randn((count, symmetry.dimension), generator=generator, dtype=dtype)
        return symmetry.project(spread * x)

    return draw


def uniform_start(symmetry: Symmetry, reach: float) -> Draw:
    """Independent uniform numbers in [-reach, reach]."""

    def draw(count: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        x = torch.rand((count, symmetry.dimension), generator=generator, dtype=dtype)
        return symmetry.project(reach * (2.0 * x - 1.0))

    return draw
