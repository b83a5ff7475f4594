"""Conformations of several molecules as one list of atoms.

The atoms of all conformations stand one after the other; conformations may be of different molecules and sizes. Pairs
are listed within each conformation only, so that an energy is a sum over conformations by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AtomBatch:
    """Conformations one after the other.

    Attributes
    ----------
    positions : Tensor [A, 3], nm
    kinds : int64 Tensor [A]
        Indices into the vocabulary of a model.
    parameters : Tensor [A, 5]
    conformation : int64 Tensor [A]
        Number of the conformation of every atom, ascending.
    first, second : int64 Tensor [Q]
        All pairs of atoms of one conformation, each once.
    count : int
        Number M of conformations.
    """

    positions: Tensor
    kinds: Tensor
    parameters: Tensor
    conformation: Tensor
    first: Tensor
    second: Tensor
    count: int


class PairList:
    """All pairs of atoms of molecules of any size, made once per size."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def of(self, sizes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (first, second), int64 [Q] each, of conformations of ``sizes`` atoms that stand one after the other."""
        start, first, second = 0, [], []
        for size in sizes:
            if size not in self._of:
                i, j = np.triu_indices(size, 1)
                self._of[size] = i.astype(np.int64), j.astype(np.int64)
            i, j = self._of[size]
            first.append(i + start)
            second.append(j + start)
            start += size
        return np.concatenate(first), np.concatenate(second)


def batch_of(
    positions: Sequence[NDArray[Any]], kinds: Sequence[Tensor], parameters: Sequence[Tensor], pairs: PairList
) -> AtomBatch:
    """Conformations of any molecules as one list of atoms, in the type of ``parameters``.

    Parameters
    ----------
    positions : sequence of float [N_m, 3], nm
    kinds : sequence of int64 Tensor [N_m]
    parameters : sequence of Tensor [N_m, 5]
    pairs : PairList
        Kept by the caller, so that pairs of a size are listed once.
    """
    sizes = [len(x) for x in positions]
    first, second = pairs.of(sizes)
    return AtomBatch(
        torch.from_numpy(np.concatenate(positions)).to(parameters[0].dtype),
        torch.cat(list(kinds)),
        torch.cat(list(parameters)),
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        torch.from_numpy(first),
        torch.from_numpy(second),
        len(sizes),
    )
