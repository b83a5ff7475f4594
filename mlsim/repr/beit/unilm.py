"""Reader of the original repository's ``.pth`` files, and its inverse.

    original                                             here (transformers)
    cls_token, mask_token, pos_embed                     embeddings.{cls_token, mask_token, position_embeddings}
    patch_embed.proj                                     embeddings.patch_embeddings.projection
    rel_pos_bias.relative_position_bias_table            shared_position_bias.relative_position_bias_table
    blocks.i.norm1, norm2                                layers.i.layernorm_before, layernorm_after
    blocks.i.attn.qkv.weight (rows q, k, v)              layers.i.attention.{q,k,v}_proj.weight
    blocks.i.attn.q_bias, v_bias (k has none)            layers.i.attention.{q,v}_proj.bias
    blocks.i.attn.proj, mlp.fc1, mlp.fc2                 layers.i.attention.o_proj, mlp.fc1, mlp.fc2
    blocks.i.gamma_1, gamma_2                            layers.i.lambda_1, lambda_2
    blocks.i.attn.relative_position_bias_table           transformers' table of block i
    norm, lm_head                                        layernorm, lm_head               (pre-trained)
    fc_norm, head                                        pooler.layernorm, classifier     (fine-tuned)

The size of the network follows from the shapes, so that a bare file is enough; ``relative_position_index`` is a
constant and dropped. A ``pt22k`` file keeps its trained final norm. Files are read with ``weights_only=True``; the one
foreign class that these files may hold is argparse's Namespace, which carries no code.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BeitConfig, BeitForImageClassification, BeitForMaskedImageModeling

from mlsim import limits
from mlsim.errors import ArtifactError, MissingError
from mlsim.repr.encoder import fill

Model = BeitForMaskedImageModeling | BeitForImageClassification
_TABLE = "relative_position_bias_table"
#: (original, transformers) fragments of one block.
_BLOCK = (
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("attn.proj.", "attention.o_proj."),
    ("attn.q_bias", "attention.q_proj.bias"),
    ("attn.v_bias", "attention.v_proj.bias"),
    ("gamma_1", "lambda_1"),
    ("gamma_2", "lambda_2"),
)
_OUTSIDE = (
    ("cls_token", "beit.embeddings.cls_token"),
    ("mask_token", "beit.embeddings.mask_token"),
    ("pos_embed", "beit.embeddings.position_embeddings"),
    ("patch_embed.proj.", "beit.embeddings.patch_embeddings.projection."),
    ("rel_pos_bias.", "beit.shared_position_bias."),
    ("fc_norm.", "beit.pooler.layernorm."),
    ("head.", "classifier."),
    ("lm_head.", "lm_head."),
    ("norm.", "layernorm."),
)


def load_unilm(path: str | Path) -> Model:
    """Read a ``.pth`` file of the original repository; its pixels are scaled as (x - 1/2) / (1/2).

    Raises
    ------
    MissingError
        If there is no such file.
    ArtifactError
        If it cannot be read without unpickling code, or is no BEiT.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a checkpoint of the original BEiT repository")
    try:
        with limits.torch_file(path) as file, torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError) as error:
        reason = str(error).split("\n")[0][:120]
        raise ArtifactError(f"{path}: not readable as plain tensors: {reason}") from None
    state = content.get("model", content.get("module", content)) if isinstance(content, dict) else None
    if not isinstance(state, dict) or "cls_token" not in state or "patch_embed.proj.weight" not in state:
        raise ArtifactError(f"{path}: expected the parameters of a BEiT (cls_token, patch_embed.proj, blocks.*)")
    return from_unilm(state, str(path))


def from_unilm(state: Mapping[str, Tensor], source: str) -> Model:
    """The network that the original parameters describe; ``source`` is for messages."""
    try:
        config = _config(state)
        model: Any = (BeitForMaskedImageModeling if "lm_head.weight" in state else BeitForImageClassification)(config)
        fill(model, _rename(state, model), source)
    except KeyError as error:
        raise ArtifactError(f"{source}: lacks {error}") from None
    return model


def to_unilm(model: Model) -> dict[str, Tensor]:
    """The parameters of ``model`` under the original names: the inverse of :func:`from_unilm`."""
    result: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        block = re.fullmatch(r"beit\.layers\.(\d+)\.(.+)", name)
        if block is None:
            result[_swap(name, [(new, old) for old, new in _OUTSIDE])] = value
            continue
        head = f"blocks.{block[1]}."
        inner = re.fullmatch(r"attention\.([qkv])_proj\.weight", block[2])
        if inner is not None:
            parts.setdefault(head, {})[inner[1]] = value
        elif block[2].endswith(_TABLE):
            result[f"{head}attn.{_TABLE}"] = value
        else:
            result[head + _swap(block[2], [(new, old) for old, new in _BLOCK])] = value
    for head, part in parts.items():
        result[f"{head}attn.qkv.weight"] = torch.cat([part[letter] for letter in "qkv"])
    return result


def _rename(state: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    tables = [name for name in model.state_dict() if name.endswith(_TABLE) and name.startswith("beit.layers.")]
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith("relative_position_index"):
            continue
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            result[_swap(name, _OUTSIDE)] = value
            continue
        head = f"beit.layers.{block[1]}."
        if block[2] == "attn.qkv.weight":
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                result[f"{head}attention.{letter}_proj.weight"] = part
        elif block[2] == f"attn.{_TABLE}":
            result[next(table for table in tables if table.startswith(head))] = value
        else:
            result[head + _swap(block[2], _BLOCK)] = value
    if "beit.embeddings.mask_token" not in model.state_dict():  # fine-tuned files keep a mask token that has no use
        result.pop("beit.embeddings.mask_token", None)
    return result


def _swap(name: str, pairs: Any) -> str:
    for old, new in pairs:
        if name == old or (old.endswith(".") and name.startswith(old)):
            return new + name[len(old) :]
    return name


def _config(state: Mapping[str, Tensor]) -> BeitConfig:
    """Size of the network from the shapes of its parameters."""
    hidden = state["cls_token"].shape[-1]
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    shared = f"rel_pos_bias.{_TABLE}"
    own = f"blocks.0.attn.{_TABLE}"
    table = state[shared if shared in state else own]
    patch = state["patch_embed.proj.weight"].shape[-1]
    window = (round((len(table) - 3) ** 0.5) + 1) // 2  # rows = (2 window - 1)^2 + 3
    words = "lm_head.weight" in state
    given: dict[str, Any] = (
        {"vocab_size": len(state["lm_head.weight"])} if words else {"num_labels": len(state["head.weight"])}
    )
    return BeitConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=table.shape[1],
        intermediate_size=state["blocks.0.mlp.fc1.weight"].shape[0],
        layer_norm_eps=1e-6,
        image_size=window * patch,
        patch_size=patch,
        num_channels=state["patch_embed.proj.weight"].shape[1],
        use_mask_token=words,
        use_absolute_position_embeddings="pos_embed" in state,
        use_shared_relative_position_bias=shared in state,
        use_relative_position_bias=own in state,
        use_mean_pooling=words or "fc_norm.weight" in state,
        **given,
    )
