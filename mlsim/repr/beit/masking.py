"""Which patches are hidden: blockwise masks (BEiT, algorithm 1) and uniformly random ones.

Blockwise, on a grid of h x w patches with a target of n masked ones: until n is reached, draw a block

    area    s ~ U(min_block, n - masked)
    aspect  r = exp(u),  u ~ U(log a, log 1/a)
    height  round(sqrt(s r)),   width  round(sqrt(s / r))       strictly smaller than the grid
    place   uniform

and accept it if it adds between 1 and n - masked new patches; after ten refused draws stop. The count is therefore
*at most* n, and varies: a reader that needs equal counts must not assume them.

Symbols: n -> ``target``, a -> ``min_aspect``. Reference: Bao, Dong, Piao, Wei, "BEiT: BERT pre-training of image
transformers", ICLR 2022. One difference: on a grid too small for ``min_block`` patches the block area starts at
what is left to mask.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError

Masking = Literal["blockwise", "random"]
#: Draws before a mask is left short of its target.
ATTEMPTS = 10


def blockwise(
    grid: tuple[int, int],
    target: int,
    rng: np.random.Generator,
    min_block: int = 16,
    min_aspect: float = 0.3,
) -> NDArray[np.bool_]:
    """One blockwise mask.

    Parameters
    ----------
    grid : (int, int)
        Patches per column and row.
    target : int
        Most patches that may be hidden.
    rng : numpy.random.Generator
    min_block : int
        Smallest block, patches.
    min_aspect : float
        Smallest ratio of the sides, in (0, 1].

    Returns
    -------
    bool array [h, w]

    Raises
    ------
    InputError
        If the target does not lie in the grid or the aspect not in (0, 1].
    """
    height, width = grid
    _require_target(grid, target)
    if not 0.0 < min_aspect <= 1.0 or min_block < 1:
        raise InputError(f"blockwise mask: expected min_aspect in (0, 1], min_block > 0, got {min_aspect}, {min_block}")
    mask = np.zeros(grid, dtype=bool)
    limit = -np.log(min_aspect)
    while (left := target - int(mask.sum())) > 0:
        for _ in range(ATTEMPTS):
            area = rng.uniform(min(min_block, left), left)
            aspect = np.exp(rng.uniform(-limit, limit))
            h, w = max(1, round(np.sqrt(area * aspect))), max(1, round(np.sqrt(area / aspect)))
            if h >= height or w >= width:
                continue
            top, side = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            block = mask[top : top + h, side : side + w]
            fresh = block.size - int(block.sum())
            if 0 < fresh <= left:
                block[:] = True
                break
        else:
            break
    return mask


def scattered(grid: tuple[int, int], target: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of exactly ``target`` patches drawn without replacement, bool [h, w]."""
    _require_target(grid, target)
    mask = np.zeros(grid[0] * grid[1], dtype=bool)
    mask[rng.permutation(mask.size)[:target]] = True
    return mask.reshape(grid)


def draw(
    kind: Masking, grid: tuple[int, int], target: int, count: int, rng: np.random.Generator, min_block: int
) -> NDArray[np.bool_]:
    """``count`` masks, flattened, bool [count, h w]; each hides at least one patch."""
    if kind == "random":
        return np.stack([scattered(grid, target, rng).ravel() for _ in range(count)])
    masks: list[NDArray[np.bool_]] = []
    while len(masks) < count:
        mask = blockwise(grid, target, rng, min_block)
        if mask.any():
            masks.append(mask.ravel())
    return np.stack(masks)


def _require_target(grid: tuple[int, int], target: int) -> None:
    if not 0 < target < grid[0] * grid[1]:
        raise InputError(f"mask: expected a target between 1 and {grid[0] * grid[1] - 1} patches, got {target}")
