"""Block-wise splits: whole stretches of time go to training, validation or test.

Frames a fraction of a picosecond apart are nearly copies of each other, so a split by single frames would
hold out nothing. A block is a stretch of ``block_ps`` of one run; blocks never straddle runs. Optionally frames next
to a block of another part are dropped on both sides, so that ``gap_ps`` lie between any two parts.

The same blocks are the unit of resampling for error bars (:func:`block_index`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.records import SplitNote
from mlsim.seeds import numpy_stream

#: Key of the note in the provenance of a part.
SPLIT = "split"


@dataclass(frozen=True, eq=False)
class Split:
    """Frame indices of the three parts (int64, ascending), and how they were chosen.

    The parts carry ``note`` in their provenance, so that whoever trains on them can record it.
    """

    frames: ForceFrames
    train_index: NDArray[np.int64]
    valid_index: NDArray[np.int64]
    test_index: NDArray[np.int64]
    note: SplitNote

    @property
    def block_ps(self) -> float:
        """Length of a block, ps."""
        return self.note.block_ps

    @property
    def train(self) -> ForceFrames:
        """Frames for fitting."""
        return self._part("train", self.train_index)

    @property
    def valid(self) -> ForceFrames:
        """Frames for early stopping."""
        return self._part("valid", self.valid_index)

    @property
    def test(self) -> ForceFrames:
        """Frames for the final error, seen by nothing before."""
        return self._part("test", self.test_index)

    def _part(self, name: str, index: NDArray[np.int64]) -> ForceFrames:
        if len(index) == 0:
            raise InputError(f"this split has no {name} frames; ask for a fraction above zero")
        part = self.frames.take(index)
        return replace(part, provenance={**part.provenance, SPLIT: self.note.model_dump(mode="json")})


def block_index(frames: ForceFrames, block_ps: float) -> NDArray[np.int64]:
    """Block number of every frame, int64 [F].

    A block is all frames of one run with the same ``floor(time / block_ps)``; numbers are consecutive from zero in
    order of run and time. A subset of frames keeps the boundaries.
    """
    if not block_ps > 0:
        raise InputError(f"block_ps: expected a positive length (ps), got {block_ps}")
    stretch = np.floor(frames.time_ps / block_ps).astype(np.int64)
    _, number = np.unique(np.stack([frames.run, stretch], axis=1), axis=0, return_inverse=True)
    return number.reshape(-1).astype(np.int64)


def by_block(
    frames: ForceFrames, fractions: tuple[float, float, float], block_ps: float, seed: int, gap_ps: float = 0.0
) -> Split:
    """Split by whole blocks, chosen at random.

    Parameters
    ----------
    frames : ForceFrames
    fractions : (train, valid, test)
        Wanted shares of the frames, summing to one; met to within a block.
    block_ps : float
        Length of a block, ps; several times the slowest correlation that matters.
    seed : int
        Root seed of the choice.
    gap_ps : float
        Frames within half of this of a block of another part are dropped, ps.

    Raises
    ------
    InputError
        If there are fewer blocks than parts, or the gap leaves a part empty.
    """
    _require_fractions(fractions)
    if gap_ps < 0 or gap_ps >= block_ps:
        raise InputError(f"gap_ps: expected at least 0 and less than block_ps = {block_ps}, got {gap_ps}")
    number = block_index(frames, block_ps)
    sizes = np.bincount(number)
    wanted = sum(fraction > 0 for fraction in fractions)
    if len(sizes) < wanted:
        raise InputError(
            f"split: expected at least {wanted} blocks of {block_ps} ps, got {len(sizes)}; "
            "use shorter blocks or more frames"
        )
    part_of_block = _assign(sizes, fractions, numpy_stream(seed, "dataset.split"))
    part = part_of_block[number]
    kept = _outside_gaps(frames, number, part_of_block, block_ps, gap_ps)
    index = [np.flatnonzero(kept & (part == k)) for k in range(3)]
    for name, fraction, chosen in zip(("train", "valid", "test"), fractions, index, strict=True):
        if fraction > 0 and len(chosen) == 0:
            raise InputError(f"split: no {name} frames are left; use a smaller gap or longer blocks")
    note = SplitNote(fractions=fractions, block_ps=block_ps, gap_ps=gap_ps, seed=seed)
    return Split(frames, index[0], index[1], index[2], note)


def repeated(frames: ForceFrames, note: SplitNote) -> Split:
    """The split that ``note`` describes, of the same frames."""
    return by_block(frames, note.fractions, note.block_ps, note.seed, note.gap_ps)


def note_of(frames: ForceFrames) -> SplitNote | None:
    """How these frames were split off from a whole, if they were."""
    told = frames.provenance.get(SPLIT)
    return None if told is None else SplitNote.parse(told, "split")


def _require_fractions(fractions: tuple[float, float, float]) -> None:
    good = len(fractions) == 3 and all(0 <= f <= 1 for f in fractions) and abs(sum(fractions) - 1) < 1e-6
    if not good or fractions[0] == 0:
        raise InputError(f"fractions: expected three shares (train > 0, valid, test) summing to 1, got {fractions}")


def _assign(sizes: NDArray[Any], fractions: tuple[float, float, float], generator: np.random.Generator) -> NDArray[Any]:
    """Part (0, 1, 2) of every block: smaller parts are filled first, each with at least one block."""
    part = np.zeros(len(sizes), dtype=np.int64)
    order = list(generator.permutation(len(sizes)))
    reserve = sum(f > 0 for f in fractions)
    for k in (2, 1):
        if fractions[k] == 0:
            continue
        reserve -= 1
        target, filled = fractions[k] * sizes.sum(), 0
        while len(order) > reserve and (filled == 0 or filled + sizes[order[-1]] / 2 <= target):
            block = order.pop()
            part[block] = k
            filled += sizes[block]
    return part


def _outside_gaps(
    frames: ForceFrames, number: NDArray[Any], part_of_block: NDArray[Any], block_ps: float, gap_ps: float
) -> NDArray[np.bool_]:
    """Mask [F] of frames farther than ``gap_ps / 2`` from every block edge shared with another part."""
    kept = np.ones(len(frames), dtype=bool)
    if gap_ps == 0:
        return kept
    stretch = np.floor(frames.time_ps / block_ps).astype(np.int64)
    part_at = {(int(r), int(s)): int(part_of_block[n]) for r, s, n in zip(frames.run, stretch, number, strict=True)}
    since = frames.time_ps - stretch * block_ps
    for i, (r, s) in enumerate(zip(frames.run, stretch, strict=True)):
        own = part_at[int(r), int(s)]
        before, after = part_at.get((int(r), int(s) - 1), own), part_at.get((int(r), int(s) + 1), own)
        near_start = before != own and since[i] < gap_ps / 2
        near_end = after != own and block_ps - since[i] <= gap_ps / 2
        kept[i] = not (near_start or near_end)
    return kept
