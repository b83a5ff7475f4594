"""Backbone and feature pyramid of the small detector.

What: a stem of stride 2, then one residual stage per stride 4, 8, 16, ...; their outputs are brought to one width by
1 x 1 convolutions and added from coarse to fine (nearest upsampling), each followed by a 3 x 3 convolution.
Group normalisation throughout, because maps are few and batches small.

Reference: Lin et al., Feature Pyramid Networks, CVPR 2017, arXiv:1612.03144.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

#: Channels per group of every normalisation here.
_GROUP = 8


class Stage(nn.Module):
    """Halve the size, then one residual unit."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.down = _conv(in_channels, channels, 2)
        self.inner = _conv(channels, channels, 1)
        self.outer = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(channels // _GROUP, channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, channels, H / 2, W / 2]."""
        down = self.down(features)
        return functional.relu(down + self.outer(self.inner(down)))


class Pyramid(nn.Module):
    """Images to an ordered dictionary of levels ``p2``, ``p3``, ... with strides 4, 8, ...

    Parameters
    ----------
    image_channels : int
    widths : sequence of int
        Channels of the stem and of every stage (multiples of 8); one level per stage.
    channels : int
        Channels of every level.
    """

    def __init__(self, image_channels: int, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.stem = _conv(image_channels, widths[0], 2)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(widths))
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths[1:])
        self.strides = tuple(4 * 2**level for level in range(len(self.stages)))
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Levels [B, channels, H / stride, W / stride] of ``images`` [B, image_channels, H, W], finest first."""
        features = self.stem(images)
        bottom_up = []
        for stage in self.stages:
            features = stage(features)
            bottom_up.append(features)
        merged = [lateral(level) for lateral, level in zip(self.lateral, bottom_up, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            size = (merged[level].shape[2], merged[level].shape[3])
            merged[level] = merged[level] + functional.interpolate(merged[level + 1], size=size, mode="nearest")
        smoothed = (smooth(level) for smooth, level in zip(self.smooth, merged, strict=True))
        return OrderedDict((f"p{number + 2}", level) for number, level in enumerate(smoothed))


class ConvolutionTower(nn.Module):
    """The usual head to compare with: ``blocks`` 3 x 3 convolutions per level, shared, no look at other levels."""

    def __init__(self, in_channels: int, channels: int, blocks: int) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * blocks
        self.layers = nn.Sequential(*(_conv(a, b, 1) for a, b in pairwise(widths)))
        self.out_channels = channels

    def forward(self, pyramid: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Every level [B, in_channels, H, W] on its own."""
        return OrderedDict((name, self.layers(level)) for name, level in pyramid.items())


def _conv(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(channels // _GROUP, channels),
        nn.ReLU(),
    )
