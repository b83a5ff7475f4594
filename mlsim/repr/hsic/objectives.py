"""What is minimised in self-supervised learning: SSL-HSIC, and InfoNCE and BYOL behind the same interface.

An objective takes views Z [K, B, d] of B things, normalised to unit length. Without a target network K = 2; with one
the four are, in this order, predictions of view 1 and view 2 and the target's view of 2 and 1 (no gradient), see
``twins``.

    hsic      gamma sqrt(HSIC(Z, Z)) - HSIC(Z, Y)                                exact or from random features
    infonce   mean over i of -log softmax_j(z_i . z'_j / T)_i, both directions, other views of the batch as negatives
    byol      2 - 2 mean z_i . t_i, prediction against target

Why gamma is 1 and not the paper's 3: features that fall into M equal clusters far apart, one thing in each view of a
cluster, have HSIC(Z, Y) / sqrt(HSIC(Z, Z)) = sqrt(M - 1), whatever the kernel. The loss rewards them only if M > 1 +
gamma^2: ten clusters for gamma = 3, which a batch of thousands of photographs has, three for gamma = 1. A molecule
with two metastable states needs gamma < 1, hence 0.3 in ``time_lagged``. The sweep {0, 0.3, 1, 3} is in
``benchmarks/repr/hsic.py``.

Symbols: gamma ``gamma``; T ``temperature``; k ``kernel``; D ``random_features``.

References: Li et al. 2021, arXiv:2106.08320; Chen et al. 2020, arXiv:2002.05709; Grill et al. 2020, arXiv:2006.07733.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mlsim.repr.hsic.estimators import from_features, from_grams, identity_from_gram, identity_hsic_random
from mlsim.repr.hsic.random_features import kernel_named
from mlsim.repr.hsic.scale import KernelScale
from mlsim.settings import Settings


class ObjectiveSettings(Settings):
    """Which objective, and its constants. ``random_features`` zero means exact Gram matrices."""

    name: Literal["hsic", "infonce", "byol"] = "hsic"
    gamma: float = Field(1.0, ge=0)
    kernel: Literal["imq", "rbf", "linear"] = "imq"
    scale: float = Field(1.0, gt=0)
    scale_rate: float = Field(0.01, ge=0)
    random_features: int = Field(0, ge=0, le=65536)
    temperature: float = Field(0.2, gt=0)


class Objective(nn.Module):
    """A loss of views."""

    def forward(self, views: Tensor, generator: torch.Generator) -> Tensor:
        """Loss, a scalar, of views [K, B, d] of unit length; random draws come from ``generator``."""
        raise NotImplementedError

    def after_step(self, views: Tensor) -> None:
        """Follow the features, without gradient; views [K, B, d]."""


class HsicObjective(Objective):
    """gamma sqrt(HSIC(Z, Z)) - HSIC(Z, Y)."""

    def __init__(self, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.kernel = kernel_named(settings.kernel)
        self.scale = KernelScale(self.kernel, settings.scale, settings.scale_rate)
        self.gamma = settings.gamma
        self.count = settings.random_features

    def forward(self, views: Tensor, generator: torch.Generator) -> Tensor:
        gain, cost = self._random(views, generator) if self.count else self._exact(views)
        return self.gamma * (cost + _TINY).sqrt() - gain if self.gamma else -gain

    def _exact(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """HSIC(Z, Y) and HSIC(Z, Z) from one Gram matrix."""
        rows = views.flatten(0, 1)
        gram = self.kernel.gram(rows, rows, self.scale.value)
        return identity_from_gram(gram, len(views)), from_grams(gram, gram)

    def _random(self, views: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same from three independent draws of random features."""
        rows, scale = views.flatten(0, 1), self.scale.value
        gain = identity_hsic_random(views, self.kernel, scale, self.count, generator)
        first, second = (self.kernel.features(rows, self.count, scale, generator) for _ in range(2))
        return gain, from_features(first, second)

    def after_step(self, views: Tensor) -> None:
        self.scale.update(views.detach().flatten(0, 1)[:_SCALE_ROWS])


class InfoNce(Objective):
    """Cross entropy of finding the other view among all views of the batch (NT-Xent)."""

    def __init__(self, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.temperature = settings.temperature

    def forward(self, views: Tensor, generator: torch.Generator) -> Tensor:
        pairs = [(views[0], views[1])] if len(views) == 2 else [(views[0], views[2]), (views[1], views[3])]
        return torch.stack([self._cross_entropy(a, b) for a, b in pairs]).mean()

    def _cross_entropy(self, first: Tensor, second: Tensor) -> Tensor:
        rows = torch.cat([first, second])
        n = len(first)
        own = torch.eye(2 * n, dtype=torch.bool, device=rows.device)
        logits = (rows @ rows.mT / self.temperature).masked_fill(own, float("-inf"))
        partner = torch.arange(2 * n, device=rows.device).roll(n)
        return functional.cross_entropy(logits, partner)


class Byol(Objective):
    """Squared distance of the prediction from the target's view."""

    def forward(self, views: Tensor, generator: torch.Generator) -> Tensor:
        return 2.0 - (views[0] * views[2]).sum(-1).mean() - (views[1] * views[3]).sum(-1).mean()


#: Rows of a batch that the scale looks at: all pairs among them.
_SCALE_ROWS = 256
_TINY = 1e-12


def objective_for(settings: ObjectiveSettings) -> Objective:
    """The objective that the settings describe."""
    if settings.name == "hsic":
        return HsicObjective(settings)
    return InfoNce(settings) if settings.name == "infonce" else Byol()
