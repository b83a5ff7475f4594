"""``DyHeadNeck``: a stack of Dynamic Head blocks that goes behind any feature pyramid.

What: ``OrderedDict[str, Tensor] -> OrderedDict[str, Tensor]`` with the same names and sizes, finest level first, which
is what torchvision's ``FeaturePyramidNetwork`` gives and its detectors take: ``nn.Sequential(backbone_with_fpn, neck)``
with ``out_channels`` set is a backbone for ``torchvision.models.detection.FCOS``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from mlsim.errors import InputError
from mlsim.repr.dynamic_head.network.block import DyHeadBlock, DyHeadSettings


class DyHeadNeck(nn.Module):
    """Dynamic Head over a feature pyramid.

    Parameters
    ----------
    settings : DyHeadSettings

    Attributes
    ----------
    out_channels : int
        Channels of every level that comes out.
    """

    def __init__(self, settings: DyHeadSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or DyHeadSettings()
        widths = [self.settings.in_channels] + [self.settings.channels] * (self.settings.blocks - 1)
        self.blocks = nn.ModuleList(DyHeadBlock(width, self.settings) for width in widths)
        self.out_channels = self.settings.channels

    def forward(self, pyramid: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Attend over the pyramid.

        Parameters
        ----------
        pyramid : mapping of Tensor [B, in_channels, H_l, W_l]
            By level name, finest first; every level half as large as the one before (rounded up).

        Returns
        -------
        OrderedDict of Tensor [B, channels, H_l, W_l]

        Raises
        ------
        InputError
            If channels or sizes do not fit.
        """
        self._require(pyramid)
        result = OrderedDict(pyramid)
        for block in self.blocks:
            result = block(result)
        return result

    def _require(self, pyramid: Mapping[str, Tensor]) -> None:
        if not pyramid:
            raise InputError("DyHeadNeck: expected at least one level, got none")
        before: tuple[int, int] | None = None
        for name, features in pyramid.items():
            if features.ndim != 4 or features.shape[1] != self.settings.in_channels:
                raise InputError(
                    f"DyHeadNeck: level '{name}': expected [B, {self.settings.in_channels}, H, W], "
                    f"got {list(features.shape)}"
                )
            size = (int(features.shape[2]), int(features.shape[3]))
            half = None if before is None else ((before[0] + 1) // 2, (before[1] + 1) // 2)
            if half is not None and size != half:
                raise InputError(
                    f"DyHeadNeck: level '{name}': expected {half[0]} x {half[1]}, half of the level before, "
                    f"got {size[0]} x {size[1]}"
                )
            before = size
