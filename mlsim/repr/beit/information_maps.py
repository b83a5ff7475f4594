"""Where in an image the information is: surprise and occlusion, one number per patch.

    surprise[p]   = -log p(word of patch p | all other patches)         nats; high = unexpected here
    occlusion[p]  = 1 - cos( f(x), f(x with patch p hidden) )           high = the features rest on it

For a contact or distance map a patch is a pair of stretches of the chain, so a surprise map tells which contacts a
model of usual conformations did not expect. One pass hides every ``stride``-th patch at a time: 1 is exact, larger
ones hide several patches together and are quicker.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BeitForMaskedImageModeling

from mlsim.errors import InputError
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.patch_target import Words
from mlsim.repr.encoder import Progress


@torch.no_grad()
def surprise_map(
    encoder: BeitEncoder,
    images: NDArray[Any],
    *,
    passes: int | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Negative log probability of the word of every patch when it is hidden, nats.

    Parameters
    ----------
    encoder : BeitEncoder
        Pre-trained on words, tokenizer included.
    images : array [n, s, s] or [n, c, s, s]
    passes : int, optional
        Forward passes per image; as many as patches (one hidden at a time) if not given.
    batch_size : int
    progress : callable, optional
        ``progress(done, total)`` in passes.

    Returns
    -------
    float64 array [n, grid, grid]

    Raises
    ------
    InputError
        If the encoder cannot predict words, or ``passes`` is not between 2 and the number of patches.
    """
    if encoder.tokenizer is None or not isinstance(encoder.model, BeitForMaskedImageModeling):
        raise InputError("surprise map: expected an encoder pre-trained on words, with its tokenizer")
    checked = torch.from_numpy(encoder.require(images))
    codes = Words(encoder.tokenizer).prepare(checked.to(encoder.device))
    result = torch.zeros(codes.shape, dtype=torch.float64)
    groups = _groups(codes.shape[1], passes)
    for number, group in enumerate(groups):
        for start in range(0, len(checked), batch_size):
            part = slice(start, start + batch_size)
            hidden = group.expand(len(codes[part]), -1).to(encoder.device)
            logits = encoder.model(encoder.pixels(checked[part]), bool_masked_pos=hidden).logits.double()
            said = logits.log_softmax(-1).gather(-1, codes[part][..., None])[..., 0].cpu()
            result[part] = torch.where(group, -said, result[part])
        if progress is not None:
            progress(number + 1, len(groups))
    return result.reshape(len(checked), *encoder.grid).numpy()


@torch.no_grad()
def occlusion_map(
    encoder: BeitEncoder,
    images: NDArray[Any],
    *,
    layer: str = "last",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Cosine distance between the features of an image and those with one patch replaced by the mean pixel.

    Parameters
    ----------
    encoder : BeitEncoder
    images : array [n, s, s] or [n, c, s, s]
    layer : str
        As in ``encode``; pooled by the mean.
    batch_size : int
    progress : callable, optional

    Returns
    -------
    float64 array [n, grid, grid]
    """
    checked = encoder.require(images)
    patch = int(encoder.model.config.patch_size)
    rows, columns = encoder.grid
    plain = encoder.encode(checked, layer=layer, batch_size=batch_size)
    grey = np.asarray(encoder.mean, dtype=np.float32)[:, None, None]
    result = np.zeros((len(checked), rows, columns))
    for row in range(rows):
        for column in range(columns):
            view = np.array(checked)
            view[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = grey
            changed = encoder.encode(view, layer=layer, batch_size=batch_size)
            result[:, row, column] = 1.0 - _cosine(plain, changed)
            if progress is not None:
                progress(row * columns + column + 1, rows * columns)
    return result


def _groups(patches: int, passes: int | None) -> list[Tensor]:
    """Masks that hide every patch exactly once."""
    count = patches if passes is None else passes
    if not 2 <= count <= patches:
        raise InputError(f"passes: expected between 2 and {patches} (one patch at a time), got {count}")
    number = torch.arange(patches) % count
    return [number == k for k in range(count)]


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return (x * y).sum(1) / np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1), 1e-12)
