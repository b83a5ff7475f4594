"""Intervals of root-mean-square force errors by resampling blocks of time.

Neighbouring frames are correlated, so whole blocks are drawn with replacement, 1000 times. Everything that one
:class:`BlockBootstrap` judges is resampled with the same blocks, so that two predictors can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsim.dataset import split
from mlsim.dataset.frames import ForceFrames
from mlsim.seeds import numpy_stream
from mlsim.shapes import Floats

_RESAMPLES = 1000


#: Least number of blocks that an interval is made from; fewer cannot say how much they vary.
LEAST_BLOCKS = 5


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; None where there were too few blocks of time for one."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f} (fewer than {LEAST_BLOCKS} blocks of time: no interval)"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class BlockBootstrap:
    """Resampled blocks of ``frames``.

    Parameters
    ----------
    frames : ForceFrames
    block_ps : float
        Length of a block, ps.
    seed : int
        Root seed of the resampling.
    stream : str
        Name of the random stream.
    """

    def __init__(self, frames: ForceFrames, block_ps: float, seed: int, stream: str) -> None:
        _, self._block = np.unique(split.block_index(frames, block_ps), return_inverse=True)
        self.n_blocks = int(self._block.max()) + 1
        self._draws = numpy_stream(seed, stream).integers(self.n_blocks, size=(_RESAMPLES, self.n_blocks))
        self._counts = np.bincount(self._block)

    def interval(self, per_frame: Floats, root: Callable[[Any], Any] = np.sqrt) -> Interval:
        """``root`` of the mean of ``per_frame`` [F] (squared errors), with its interval where the blocks suffice."""
        sums = np.bincount(self._block, weights=per_frame)
        value = float(root(sums.sum() / self._counts.sum()))
        if self.n_blocks < LEAST_BLOCKS:
            return Interval(value, None, None)
        replicates = root(sums[self._draws].sum(axis=1) / self._counts[self._draws].sum(axis=1))
        low, high = np.percentile(replicates, [2.5, 97.5])
        return Interval(value, float(low), float(high))
