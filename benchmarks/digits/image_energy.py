"""Networks on small square images that do not see a quarter turn: group pooling over C4.

    f(x) = 1/|G| sum_g c(g x)          c a convolutional network, g x exact (``torch.rot90``), no interpolation

f(g x) = f(x) up to the order of a sum of four numbers. G = {1} gives the plain network with the same parameters, which
is the control. What the outputs mean is decided by whoever uses them: logits of classes, or an energy and a mean
(``joint``). Images are vectors of the pixels row by row, as samplers want them; activations are smooth, so that
gradients by the pixels are.

Why pooling and not steerable filters: with four elements, exactly representable on the pixel grid, it is exact, and
it leaves the network free; it costs |G| evaluations.

Symbols: c ``trunk``, |G| ``turns``.

Reference: Cohen & Welling 2016, arXiv:1602.07576 (group-equivariant networks; pooling as the last layer).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.errors import InputError
from mlsim.models.schnet import linear
from mlsim.seeds import torch_stream
from mlsim.settings import Settings


class ImageSettings(Settings):
    """Shape of the network."""

    side: int = Field(8, ge=4, le=256)
    channels: int = Field(16, ge=1, le=512)
    outputs: int = Field(10, ge=1)
    group: Literal["C4", "none"] = "C4"


class PooledImageNetwork(nn.Module):
    """Outputs that are invariant under the group.

    Parameters
    ----------
    config : ImageSettings
    seed : int
        Root seed of the initial weights.
    """

    def __init__(self, config: ImageSettings, seed: int = 0) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.turns = 4 if config.group == "C4" else 1
        generator = torch_stream(seed, "image.weights")
        width, half = config.channels, (config.side + 1) // 2
        self.trunk = nn.Sequential(
            convolution(1, width, 1, generator),
            nn.SiLU(),
            convolution(width, 2 * width, 2, generator),
            nn.SiLU(),
            convolution(2 * width, 2 * width, 2, generator),
            nn.SiLU(),
            nn.Flatten(),
            linear(2 * width * ((half + 1) // 2) ** 2, config.outputs, generator),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Outputs [B, K] of images [B, side * side]."""
        side = self.config.side
        if images.ndim != 2 or images.shape[1] != side * side:
            raise InputError(f"images: expected vectors of {side} x {side} pixels, got shape {list(images.shape)}")
        square = images.reshape(-1, 1, side, side)
        turned = torch.cat([torch.rot90(square, k, (2, 3)) for k in range(self.turns)])
        outputs: Tensor = self.trunk(turned)
        return outputs.reshape(self.turns, len(images), -1).mean(0)


def convolution(n_in: int, n_out: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    """A 3 x 3 convolution with Xavier-uniform weights from ``generator`` and zero bias."""
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, n_in, n_out, 3, stride=stride, padding=1)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def quarter_turns(side: int) -> Tensor:
    """The turn by 90 degrees as a permutation matrix of the pixels, float64 [side^2, side^2]: generator of C4."""
    index = torch.rot90(torch.arange(side * side).reshape(side, side)).reshape(-1)
    matrix = torch.zeros(side * side, side * side, dtype=torch.float64)
    matrix[torch.arange(side * side), index] = 1.0
    return matrix
