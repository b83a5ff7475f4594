r"""One Dynamic Head block: every level looks at itself and its two neighbours.

For level l of a pyramid (l + 1 is coarser, by a factor of two)

    z_l = mean over sources s in {l, l-1, l+1} of  g_s GN(DCN_s(x_s; o_l, m_l)),     y_l = task(z_l)

with the offsets o_l and masks m_l predicted from x_l; DCN of x_{l-1} has stride 2.

The coarser source does not fit: o_l has the size of level l, x_{l+1} a quarter of its pixels. ``offset_mode`` says what
is done:

    resize   x_{l+1} is first upsampled (bilinear) to the size of level l, so that every offset is used where it was
             predicted. This is what the equation means and the default.
    flat     the numbers of each image's offset buffer are read in order, as many as x_{l+1} needs. The released CUDA
             kernel does this, and the weights released by the authors were trained with it.
    crop     the top-left corner of o_l is used, as mmdet does.

With ``flat`` and ``crop`` the convolution runs on x_{l+1} and its result is upsampled. One level alone has no
neighbours, so that the three agree.

Every attention can be switched off: no scale -> g = 1; no space -> the plain convolution with the same weights (o = 0,
m = 1), ``offset_mode`` then has no meaning and the coarser source is convolved, then upsampled; no task -> ReLU.

Symbols: o, m -> ``moves``; DCN + GN -> ``NormedConv``; g -> ``ScaleAttention``.

Reference: Dai et al., CVPR 2021, arXiv:2106.08322.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mlsim.repr.dynamic_head.network.attention import MASKS, OFFSETS, ScaleAttention, SpatialAttention, TaskAttention
from mlsim.repr.dynamic_head.network.deform import DeformableConv
from mlsim.settings import Settings

OffsetMode = Literal["resize", "crop", "flat"]


class DyHeadSettings(Settings):
    """Shape of a Dynamic Head and which attentions are on."""

    in_channels: int = Field(48, ge=1, description="channels of the pyramid that comes in")
    channels: int = Field(48, ge=1, description="channels inside and out")
    blocks: int = Field(2, ge=1, le=32)
    groups: int = Field(16, ge=1, description="groups of the group normalisation")
    scale: bool = True
    space: bool = True
    task: bool = True
    offset_mode: OffsetMode = "resize"

    @model_validator(mode="after")
    def _groups_divide(self) -> DyHeadSettings:
        if self.channels % self.groups:
            raise ValueError(f"channels ({self.channels}) must be a multiple of groups ({self.groups})")
        return self


class NormedConv(nn.Module):
    """Deformable convolution and group normalisation."""

    def __init__(self, in_channels: int, channels: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = DeformableConv(in_channels, channels, stride)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, features: Tensor, moves: tuple[Tensor, Tensor] | None) -> Tensor:
        """Features [B, C, h, w] of ``features`` [B, C_in, H, W]."""
        normed: Tensor = self.norm(self.conv(features, moves))
        return normed


class DyHeadBlock(nn.Module):
    """Scale-, space- and task-aware attention over a pyramid.

    Parameters
    ----------
    in_channels : int
        Channels that come in; ``settings.channels`` go out.
    settings : DyHeadSettings
    """

    def __init__(self, in_channels: int, settings: DyHeadSettings) -> None:
        super().__init__()
        channels, groups = settings.channels, settings.groups
        self.offset_mode: OffsetMode = settings.offset_mode
        self.coarser = NormedConv(in_channels, channels, groups)
        self.same = NormedConv(in_channels, channels, groups)
        self.finer = NormedConv(in_channels, channels, groups, stride=2)
        self.scale = ScaleAttention(channels) if settings.scale else None
        self.space = SpatialAttention(in_channels) if settings.space else None
        self.task = TaskAttention(channels) if settings.task else nn.ReLU()

    def forward(self, pyramid: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """The pyramid [B, C, H_l, W_l] by level name, finest first, in the same order and sizes."""
        names = list(pyramid)
        result: OrderedDict[str, Tensor] = OrderedDict()
        for level, name in enumerate(names):
            here = pyramid[name]
            moves = None if self.space is None else self.space(here)
            sources = [self.same(here, moves)]
            if level > 0:
                sources.append(self.finer(pyramid[names[level - 1]], moves))
            if level + 1 < len(names):
                sources.append(self._from_coarser(pyramid[names[level + 1]], here, moves))
            weighted = sources if self.scale is None else [self.scale(source) * source for source in sources]
            total = weighted[0]
            for other in weighted[1:]:
                total = total + other
            result[name] = self.task(total / len(weighted))
        return result

    def _from_coarser(self, coarse: Tensor, here: Tensor, moves: tuple[Tensor, Tensor] | None) -> Tensor:
        """Contribution of the next coarser level at the size of ``here``."""
        size = (here.shape[2], here.shape[3])
        if moves is not None and self.offset_mode == "resize":
            grown: Tensor = self.coarser(_enlarge(coarse, size), moves)
            return grown
        if moves is not None:
            shrink = shrink_flat if self.offset_mode == "flat" else shrink_crop
            rows, columns = coarse.shape[2], coarse.shape[3]
            moves = (shrink(moves[0], OFFSETS, rows, columns), shrink(moves[1], MASKS, rows, columns))
        return _enlarge(self.coarser(coarse, moves), size)


def _enlarge(features: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(features, size=size, mode="bilinear", align_corners=True)


def shrink_flat(values: Tensor, depth: int, rows: int, columns: int) -> Tensor:
    """The first ``depth * rows * columns`` numbers of every image's buffer, read as [B, depth, rows, columns]."""
    return values.flatten(1)[:, : depth * rows * columns].reshape(len(values), depth, rows, columns)


def shrink_crop(values: Tensor, depth: int, rows: int, columns: int) -> Tensor:
    """The top-left corner [B, depth, rows, columns]."""
    return values[:, :depth, :rows, :columns]
