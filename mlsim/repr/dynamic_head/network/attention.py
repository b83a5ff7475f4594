r"""The three attentions of Dynamic Head, one per axis of the feature tensor F [level, space, channel].

    W(F) = pi_C( pi_S( pi_L(F) . F ) . F ) . F

    scale   pi_L: one number per source level,  g = h(ReLU(w . mean_space F + c)),  h(x) = clip((x + 3) / 6, 0, 1)
    space   pi_S: offsets o and weights m of a deformable convolution, a 3 x 3 convolution of the level itself
    task    pi_C: y = max(a1 F + b1, a2 F + b2) with (a, b) from the image's mean features (dynamic ReLU):
            u = h(V ReLU(U mean_space F)),  a1 = 2 u1 - 1 + 1,  b1 = u2 - 1/2,  a2 = 2 u3 - 1,  b2 = u4 - 1/2

Why g lies in [1/2, 1]: the released code applies ReLU before h, so a source can be halved but never cut off. The
released weights were trained that way and it is kept. With zero weights g = 1/2, and with V = 0 and its bias 0 the
task attention is ReLU: u = 1/2 gives max(F, 0).

Symbols: w, c -> ``ScaleAttention.project``; U -> ``TaskAttention.squeeze``; V -> ``TaskAttention.expand``.

Reference: Dai et al., CVPR 2021, arXiv:2106.08322; dynamic ReLU: Chen et al., ECCV 2020, arXiv:2003.10027.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Channels of offsets (2 per point) and of masks (1 per point) of a 3 x 3 kernel.
OFFSETS, MASKS = 18, 9


def hard_sigmoid(values: Tensor) -> Tensor:
    """clip((x + 3) / 6, 0, 1), elementwise."""
    return functional.relu6(values + 3.0) / 6.0


class ScaleAttention(nn.Module):
    """One weight in [1/2, 1] per image for the features of one source level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, 1, kernel_size=1)
        nn.init.normal_(self.project.weight, std=0.01)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Weights [B, 1, 1, 1] of ``features`` [B, C, H, W]."""
        pooled = features.mean(dim=(2, 3), keepdim=True)
        return hard_sigmoid(functional.relu(self.project(pooled)))


class SpatialAttention(nn.Module):
    """Offsets and masks of the deformable convolutions, from the level they are for; zero and 1/2 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(channels, OFFSETS + MASKS, kernel_size=3, padding=1)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets [B, 18, H, W] in pixels and masks [B, 9, H, W] in [0, 1] of ``features`` [B, C, H, W]."""
        offset, logits = self.predict(features).split((OFFSETS, MASKS), dim=1)
        return offset, torch.sigmoid(logits)


class TaskAttention(nn.Module):
    """Dynamic ReLU: two lines per channel and image, the larger one counts.

    Parameters
    ----------
    channels : int
    reduction : int
        The hidden layer has ``channels // reduction`` units (at least 1).
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction))
        self.expand = nn.Linear(max(1, channels // reduction), 4 * channels)
        nn.init.normal_(self.expand.weight, std=0.01)
        nn.init.zeros_(self.expand.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Activated ``features`` [B, C, H, W]."""
        hidden = functional.relu(self.squeeze(features.mean(dim=(2, 3))))
        levels = hard_sigmoid(self.expand(hidden)) - 0.5
        a1, b1, a2, b2 = (part[:, :, None, None] for part in levels.chunk(4, dim=1))
        return torch.maximum(features * (1.0 + 2.0 * a1) + b1, features * (2.0 * a2) + b2)
