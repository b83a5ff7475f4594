"""What a masked patch must be predicted as: its visual word (BEiT) or its pixels (the ablation).

    words    L = - mean_{i masked} log softmax(W h_i + b)[z_i]
    pixels   L = mean_{i masked} |W h_i + b - x_i|^2         x_i = patch, shifted and scaled to mean 0, width 1
                                                              over the training images

A target is prepared once for a set of images and then indexed, so that the tokenizer runs over every image only once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mlsim.repr.beit.visual_tokenizer import Tokenizer, patches_of

_CHUNK = 512


class Target(ABC):
    """Base of the targets: ``width`` numbers are predicted per patch."""

    width: int
    tokenizer: Tokenizer | None

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """Targets of every patch, [n, patches] or [n, patches, width], for images [n, c, h, w] in [0, 1]."""

    @abstractmethod
    def loss(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Mean loss over masked patches: predicted [m, width], wanted [m] or [m, width]."""


class Words(Target):
    """Cross entropy with the words of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer: Tokenizer = tokenizer
        self.width = tokenizer.words

    def prepare(self, images: Tensor) -> Tensor:
        """Codes, int64 [n, patches]."""
        return torch.cat([self.tokenizer.codes(part) for part in images.split(_CHUNK)])

    def loss(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Cross entropy, nats per patch."""
        return nn.functional.cross_entropy(predicted, wanted)


class Pixels(Target):
    """Squared error of the standardised pixels."""

    def __init__(self, images: Tensor, patch: int) -> None:
        self.tokenizer = None
        self.patch = patch
        self.width = images.shape[1] * patch * patch
        self.mean, self.std = images.mean(), images.std().clamp_min(1e-6)

    def prepare(self, images: Tensor) -> Tensor:
        """Standardised patches, [n, patches, width]."""
        return patches_of((images - self.mean) / self.std, self.patch)

    def loss(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared error."""
        return nn.functional.mse_loss(predicted, wanted)
