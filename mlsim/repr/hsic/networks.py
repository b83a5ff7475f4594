"""Small networks that features come from: a perceptron for vectors and a convolutional one for square images.

    mlp   x -> (x - mean) whitening -> [linear, SiLU] depth times -> linear -> features [b, out]
    cnn   x -> [conv 3x3, batch norm, ReLU] depth times, from the second on with stride 2 -> mean over a 2 x 2 grid

Why the perceptron whitens its input: molecular features are strongly correlated, and the slow motions often carry
little variance. Whitening gives every linear direction the same weight at the start, as TICA and VAMPnets do.
Directions with a variance below 1e-6 of the largest are dropped: they are numerical noise.
"""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.models.schnet import linear
from mlsim.settings import Settings
from mlsim.shapes import Floats

#: Smallest variance of a kept direction, relative to the largest.
_KEPT = 1e-6


class NetworkSettings(Settings):
    """Shape of a network; ``shape`` is that of one input: (d,) for vectors, (channels, side, side) for images."""

    kind: Literal["mlp", "cnn"] = "mlp"
    shape: tuple[int, ...] = Field(min_length=1, max_length=3)
    width: int = Field(64, ge=1, le=4096)
    depth: int = Field(2, ge=1, le=8)
    out: int = Field(
        8, ge=1, le=4096, description="features of an mlp; a cnn has 4 times the channels of its last layer"
    )
    whitened: int = Field(0, ge=0, description="directions kept by the whitening; 0: none, inputs go in as they are")


class Network(nn.Module):
    """Base: gives the activations of every layer by name."""

    layers: tuple[str, ...]
    width: int

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """Activations of all layers, from the input upwards; the last is ``features`` [b, width]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Features [b, width]."""
        return self.activations(x)["features"]


class Mlp(Network):
    """Perceptron on whitened vectors."""

    mean: Tensor
    whitening: Tensor

    def __init__(self, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        n_in = settings.whitened or settings.shape[0]
        self.register_buffer("mean", torch.zeros(settings.shape[0]))
        self.register_buffer("whitening", torch.eye(settings.shape[0])[:, :n_in].contiguous())
        sizes = [n_in, *[settings.width] * settings.depth]
        self.hidden = nn.ModuleList(linear(a, b, generator) for a, b in itertools.pairwise(sizes))
        self.out = linear(sizes[-1], settings.out, generator)
        self.activation = nn.SiLU()
        self.layers = (*(f"hidden.{k + 1}" for k in range(settings.depth)), "features")
        self.width = settings.out

    def use_whitening(self, mean: Floats, matrix: Floats) -> None:
        """Take over the result of :func:`whitening_of`."""
        self.mean.copy_(torch.as_tensor(mean, dtype=self.mean.dtype))
        self.whitening.copy_(torch.as_tensor(matrix, dtype=self.mean.dtype))

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        x = (x.to(self.mean.dtype) - self.mean) @ self.whitening
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.layers, self.hidden, strict=False):
            x = self.activation(layer(x))
            found[name] = x
        found["features"] = self.out(x)
        return found


class Cnn(Network):
    """Convolutional network on square images; ``width`` is the number of channels of the first layer."""

    def __init__(self, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        channels = [settings.shape[0], *[settings.width * min(2, 2**k) for k in range(settings.depth)]]
        self.convs = nn.ModuleList()
        for k, (a, b) in enumerate(itertools.pairwise(channels)):
            conv: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, a, b, 3, stride=2 if k else 1, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, generator=generator)
            self.convs.append(nn.Sequential(conv, nn.BatchNorm2d(b), nn.ReLU()))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.layers = (*(f"conv.{k + 1}" for k in range(settings.depth)), "features")
        self.width = 4 * channels[-1]

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.layers, self.convs, strict=False):
            x = layer(x)
            found[name] = x
        found["features"] = self.pool(x).flatten(1)
        return found


def network(settings: NetworkSettings, generator: torch.Generator) -> Network:
    """A network with fresh parameters from ``generator``."""
    return Mlp(settings, generator) if settings.kind == "mlp" else Cnn(settings, generator)


def whitening_of(features: Floats) -> tuple[Floats, Floats]:
    """Mean [d] and matrix [d, m] that give (x - mean) @ matrix unit covariance, for features [T, d].

    m is the number of directions whose variance is above 1e-6 of the largest.
    """
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(features))
    kept = variances > max(variances[-1], 0.0) * _KEPT
    return mean, np.ascontiguousarray((axes[:, kept] / np.sqrt(variances[kept]))[:, ::-1])
