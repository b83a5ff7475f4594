"""Stored references of DW-4, LJ-13 and LJ-55: own long Monte-Carlo runs, accepted by the virial.

Files ``references/<name>.npz`` are written by ``python benchmarks/references.py <name>``, which uses single-particle
Metropolis moves with tempering, written independently of every sampler here. A file holds a thinned set of
configurations, energy and pair-distance quantiles of the whole run, and moments with block errors; it is refused when
its virial is off by more than three standard errors.

Symbols: virial = <(x - c) . grad E>, expected (n - 1) s at kT = 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlsim.errors import InputError, MissingError
from mlsim.shapes import Floats

_FOLDER = Path(__file__).parent / "references"


@dataclass(frozen=True)
class Reference:
    """A long-run reference of one target.

    Attributes
    ----------
    name : str
    positions : float64 [F, d]
        Thinned configurations, zero centre of mass.
    energies : float64 [Q]
        Energies of the whole run at equally spaced quantiles.
    distances : float64 [Q]
        Pooled pair distances at equally spaced quantiles.
    record : dict
        Moments with standard errors, virial, settings and the command.
    """

    name: str
    positions: Floats
    energies: Floats
    distances: Floats
    record: dict[str, Any]

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """``count`` different stored configurations [count, d]: near-independent draws for the iid floor."""
        if count > len(self.positions):
            raise InputError(f"{self.name}: asked for {count} reference configurations, {len(self.positions)} stored")
        index = torch.randperm(len(self.positions), generator=generator)[:count]
        return torch.as_tensor(self.positions)[index]


def available() -> tuple[str, ...]:
    """Names with a stored reference."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.npz")))


@lru_cache(maxsize=4)
def load(name: str) -> Reference:
    """The stored reference of ``name``.

    Raises
    ------
    MissingError
        If none is stored.
    InputError
        If its virial is not within three standard errors of (n - 1) s.
    """
    path = _FOLDER / f"{name}.npz"
    if not path.is_file():
        raise MissingError(f"{name}: no stored reference; have {', '.join(available())}")
    with np.load(path) as data:
        record = json.loads(str(data["record"]))
        arrays = {key: np.asarray(data[key], dtype=np.float64) for key in ("positions", "energies", "distances")}
    virial = record["virial"]
    if abs(virial["mean"] - virial["expected"]) > 3.0 * virial["stderr"]:
        raise InputError(f"{path}: virial {virial['mean']} is not {virial['expected']}; make the reference again")
    return Reference(name, arrays["positions"], arrays["energies"], arrays["distances"], record)
