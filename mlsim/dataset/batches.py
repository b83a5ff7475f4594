"""Minibatches: a random order of the frames for every epoch, from the seed and the epoch's number alone.

Nothing is carried from one epoch to the next, so a training run that starts again at epoch k sees the batches that
an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.seeds import numpy_stream


def count(n_frames: int, batch_size: int) -> int:
    """Number of batches in an epoch (the last, incomplete one is dropped unless it is the only one)."""
    if n_frames < 1 or batch_size < 1:
        raise InputError(
            f"batches: expected at least one frame and a batch size of at least 1, got {n_frames}, {batch_size}"
        )
    return max(1, n_frames // batch_size)


def shuffled(n_frames: int, batch_size: int, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Index arrays (int64 [batch_size]) of the batches of one epoch.

    Every frame appears at most once per epoch; the few that do not fill a last batch sit this epoch out.
    """
    order = numpy_stream(seed, f"dataset.batches.{epoch}").permutation(n_frames)
    for k in range(count(n_frames, batch_size)):
        yield order[k * batch_size : (k + 1) * batch_size]


def consecutive(n_frames: int, batch_size: int) -> Iterator[slice]:
    """Slices that cover all frames once, in order (for evaluation)."""
    for start in range(0, n_frames, batch_size):
        yield slice(start, min(start + batch_size, n_frames))
