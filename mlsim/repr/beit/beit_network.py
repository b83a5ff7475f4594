"""A BEiT network of any size with the initialisation of the paper.

transformers' own initialisation differs from the one BEiT was trained with, and its defaults are those of other
checkpoints; here every weight matrix, the class and the mask token are drawn from a normal of width 0.02 cut at two
widths, the matrices that write into the residual stream of block l (attention output, second feed-forward) are divided
by sqrt(2 l), biases and the relative position table start at zero, LayerScale at 0.1, layer norm uses eps = 1e-6.

Positions: the released pre-training runs use one relative position bias shared by all blocks and no absolute positions
(``relative``); the paper's text describes learned absolute ones. Where things stand in an image matters for small,
aligned images (digits, maps of one molecule), and a table that starts at zero learns it slowly: there use ``both``.

Reference: Bao et al., ICLR 2022, section 2.5 and appendix.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from transformers import BeitConfig, BeitForMaskedImageModeling

from mlsim.settings import Settings

WIDTH = 0.02
EPS = 1e-6


class NetworkSettings(Settings):
    """Size of a BEiT network; sizes in pixels."""

    size: int = Field(default=24, ge=2, description="side of the square images, pixels")
    channels: int = Field(default=1, ge=1)
    patch: int = Field(default=4, ge=1)
    hidden: int = Field(default=64, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=256, ge=8)
    layer_scale: float = Field(default=0.1, gt=0.0)
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    positions: Literal["relative", "absolute", "both"] = "relative"

    @model_validator(mode="after")
    def _fits(self) -> NetworkSettings:
        if self.size % self.patch or self.size // self.patch < 2:
            raise ValueError(f"the side {self.size} must be two or more whole patches of {self.patch} pixels")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} must be divisible by heads {self.heads}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row."""
        return self.size // self.patch, self.size // self.patch


def configuration(settings: NetworkSettings, words: int) -> BeitConfig:
    """transformers' configuration of a network that predicts ``words`` numbers per patch."""
    return BeitConfig(
        vocab_size=words,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.feedforward,
        initializer_range=WIDTH,
        layer_norm_eps=EPS,
        image_size=settings.size,
        patch_size=settings.patch,
        num_channels=settings.channels,
        use_mask_token=True,
        use_absolute_position_embeddings=settings.positions != "relative",
        use_shared_relative_position_bias=settings.positions != "absolute",
        layer_scale_init_value=settings.layer_scale,
        drop_path_rate=settings.drop_path,
    )


def masked_model(settings: NetworkSettings, words: int, *, seed: int) -> BeitForMaskedImageModeling:
    """A fresh network for masked patches, initialised as in the paper; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BeitForMaskedImageModeling(configuration(settings, words))
        initialise(model)
    return model


def initialise(model: BeitForMaskedImageModeling) -> None:
    """Draw the parameters of ``model`` as the paper does, from torch's current generator."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=WIDTH, a=-2 * WIDTH, b=2 * WIDTH)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    embeddings: Any = model.beit.embeddings
    for token in (embeddings.cls_token, embeddings.mask_token, embeddings.position_embeddings):
        if token is None:
            continue
        nn.init.trunc_normal_(token, std=WIDTH, a=-2 * WIDTH, b=2 * WIDTH)
    with torch.no_grad():
        for number, layer in enumerate(model.beit.layers, start=1):
            block: Any = layer
            block.attention.o_proj.weight.div_((2.0 * number) ** 0.5)
            block.mlp.fc2.weight.div_((2.0 * number) ** 0.5)
