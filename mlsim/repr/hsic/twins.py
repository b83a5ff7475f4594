"""Two views through one network, with or without a slowly moving target network.

    z = g(f(view))                               f ``backbone``, g ``projector`` (none: the features themselves)
    without target   Z = [z_1, z_2]
    with target      Z = [q(z_1), q(z_2), t_2, t_1],   t = g'(f'(view)) without gradient,   q ``predictor``
    after a step     (f', g') <- m (f', g') + (1 - m) (f, g)

All views are scaled to unit length. The projector is dropped after training: what helps the objective is not what helps
a probe.

Symbols: m ``decay``.

Reference: Grill et al. 2020, arXiv:2006.07733.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlsim.models.schnet import linear
from mlsim.repr.hsic.networks import Network


class Twins(nn.Module):
    """A backbone with what training needs around it.

    Parameters
    ----------
    backbone : Network
    projector : tuple of int
        Widths of the projector's layers, the last being that of the views; empty: no projector.
    decay : float
        Decay m of the target network; zero: no target network and no predictor.
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(self, backbone: Network, projector: tuple[int, ...], decay: float, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.decay = decay
        self.projector = _perceptron(backbone.width, projector, generator)
        width = projector[-1] if projector else backbone.width
        hidden = projector[0] if projector else backbone.width
        self.predictor = _perceptron(width, (hidden, width), generator) if decay else None
        online = nn.ModuleList([backbone, self.projector])
        self.target = copy.deepcopy(online).requires_grad_(False) if decay else None
        self._online = [online]  # in a list: these modules are registered once already

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Views [K, B, d] of unit length of two batches of inputs."""
        z = [self.projector(self.backbone(x)) for x in (first, second)]
        if self.target is not None and self.predictor is not None:
            with torch.no_grad():
                t = [self.target[1](self.target[0](x)) for x in (second, first)]
            z = [*(self.predictor(x) for x in z), *t]
        return functional.normalize(torch.stack(z), dim=-1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the target follow."""
        if self.target is None:
            return
        for slow, fast in zip(self.target.parameters(), self._online[0].parameters(), strict=True):
            slow.lerp_(fast, 1.0 - self.decay)
        for held, moving in zip(self.target.buffers(), self._online[0].buffers(), strict=True):
            held.copy_(moving)


def _perceptron(n_in: int, widths: tuple[int, ...], generator: torch.Generator) -> nn.Module:
    """Linear layers with batch normalisation and ReLU between them."""
    layers: list[nn.Module] = []
    for k, width in enumerate(widths):
        layers.append(linear(n_in, width, generator))
        if k + 1 < len(widths):
            layers += [nn.BatchNorm1d(width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*layers)
