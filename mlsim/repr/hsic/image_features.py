"""Self-supervised features of square images: two augmented views of every image, any objective of this package.

    image -> [random shift, contrast, noise, erased patch] twice -> convolutional network -> projector -> loss

Only augmentations that keep the meaning of a map belong here: there are no flips and no rotations, which would turn a
contact map or a digit into another one.

Reference: Li et al. 2021, arXiv:2106.08320.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mlsim.errors import InputError
from mlsim.repr.encoder import Progress
from mlsim.repr.hsic.hsic_encoder import HsicEncoder
from mlsim.repr.hsic.hsic_pretrain import PretrainSettings, pretrain
from mlsim.repr.hsic.networks import Cnn, NetworkSettings
from mlsim.seeds import torch_stream
from mlsim.settings import Settings
from mlsim.shapes import Floats, require_shape


class AugmentationSettings(Settings):
    """Strength of the changes: ``shift`` (pixels), ``contrast`` (relative), ``noise`` (values), ``erase`` (sides)."""

    shift: int = Field(1, ge=0)
    contrast: float = Field(0.3, ge=0, lt=1)
    noise: float = Field(0.1, ge=0)
    erase: float = Field(0.3, ge=0, lt=1)


class ImageSettings(Settings):
    """Network, views and training of :func:`pretrain_images`."""

    width: int = Field(32, ge=1, le=1024)
    depth: int = Field(3, ge=1, le=8)
    augmentation: AugmentationSettings = AugmentationSettings()
    training: PretrainSettings = PretrainSettings(projector=(128, 64))


def pretrain_images(
    images: Any, settings: ImageSettings | None = None, progress: Progress | None = None
) -> HsicEncoder:
    """Train an encoder on images without labels.

    Parameters
    ----------
    images : array [n, s, s] or [n, c, s, s]
        Values of order one.
    settings : ImageSettings, optional
    progress : callable, optional
        ``progress(done, total)`` in steps.

    Returns
    -------
    HsicEncoder
        ``encode`` gives the features below the projector.

    Raises
    ------
    InputError
        If the images are not square or not finite.
    UnphysicalError
        If the loss is no number.
    """
    given = settings or ImageSettings()
    checked = require_square(images)
    shape = NetworkSettings(kind="cnn", shape=checked.shape[1:], width=given.width, depth=given.depth)
    backbone = Cnn(shape, torch_stream(given.training.seed, "hsic.backbone"))
    pretrain(backbone, AugmentedViews(checked, given.augmentation), given.training, progress)
    return HsicEncoder(backbone, shape)


class AugmentedViews:
    """View source: random images, each changed twice."""

    def __init__(self, images: Floats, settings: AugmentationSettings) -> None:
        self._images = torch.tensor(images, dtype=torch.float32)
        self._settings = settings

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two batches [n, c, s, s]; no image twice unless n exceeds their number."""
        total = len(self._images)
        if n <= total:
            index = torch.randperm(total, generator=generator)[:n]
        else:
            index = torch.randint(total, (n,), generator=generator)
        chosen = self._images[index]
        return augment(chosen, self._settings, generator), augment(chosen, self._settings, generator)


def augment(images: Tensor, settings: AugmentationSettings, generator: torch.Generator) -> Tensor:
    """Changed copies of images [b, c, s, s], every image in its own way."""
    b, _, side, _ = images.shape
    s = settings.shift
    found = images
    if s:
        padded = functional.pad(images, (s, s, s, s))
        corner = torch.randint(2 * s + 1, (2, b, 1), generator=generator)
        pixels = torch.arange(side)
        rows, columns = corner[0] + pixels, corner[1] + pixels
        found = padded[torch.arange(b)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    factor = 1.0 + settings.contrast * (2.0 * torch.rand(b, 1, 1, 1, generator=generator) - 1.0)
    found = found * factor + settings.noise * torch.randn(found.shape, generator=generator)
    patch = round(settings.erase * side)
    if patch:
        corner = torch.randint(side - patch + 1, (2, b, 1), generator=generator)
        pixels = torch.arange(side)
        inside = [(pixels >= c) & (pixels < c + patch) for c in corner]
        found = found.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)
    return found


def require_square(images: Any) -> Floats:
    """Images as a checked array [n, c, s, s].

    Raises
    ------
    InputError
        If they have another shape.
    """
    values = np.asarray(images)
    if values.ndim == 3:
        values = values[:, None]
    checked = require_shape(values, (None, None, None, None), "images [n, s, s] or [n, c, s, s]")
    if checked.shape[2] != checked.shape[3]:
        raise InputError(f"images: expected square ones, got {checked.shape[2]} x {checked.shape[3]}; pad them")
    return checked
