"""From a configuration to its visual tokenizer: the three kinds, by the name that a saved encoder carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mlsim.errors import ArtifactError
from mlsim.repr.beit.discrete_vae import DiscreteVae, DiscreteVaeSettings
from mlsim.repr.beit.visual_tokenizer import DalleCodebook, PatchKMeans, Tokenizer


def build_tokenizer(config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer described by ``config``, parameters still to be filled in.

    Raises
    ------
    ArtifactError
        If the kind is unknown.
    """
    kind = config.get("kind")
    if kind == PatchKMeans.kind:
        return PatchKMeans(torch.zeros(*config["shape"]), int(config["patch"]))
    if kind == DalleCodebook.kind:
        from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

        return DalleCodebook(FlavaImageCodebook(FlavaImageCodebookConfig(**config["network"])), int(config["patch"]))
    if kind == DiscreteVae.kind:
        return DiscreteVae(DiscreteVaeSettings.parse(dict(config["settings"]), "tokenizer"))
    raise ArtifactError(f"unknown tokenizer kind {kind!r}; known: patches, dalle, dvae")
