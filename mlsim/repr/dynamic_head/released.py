r"""Dynamic Head weights published by others, and back: parameter names of both families.

    ours                          official (detectron2)                    mmdet
    blocks.i.coarser.conv         P.i.DyConv.0.conv                        N.i.spatial_conv_high.conv   (no bias)
    blocks.i.coarser.norm         P.i.DyConv.0.bn                          N.i.spatial_conv_high.norm
    blocks.i.same                 P.i.DyConv.1                             N.i.spatial_conv_mid
    blocks.i.finer                P.i.DyConv.2                             N.i.spatial_conv_low
    blocks.i.space.predict        P.i.offset                               N.i.spatial_conv_offset
    blocks.i.scale.project        P.i.AttnConv.1                           N.i.scale_attn_module.1
    blocks.i.task.squeeze         P.i.relu.fc.0                            N.i.task_attn_module.conv1.conv   (1 x 1)
    blocks.i.task.expand          P.i.relu.fc.2                            N.i.task_attn_module.conv2.conv   (1 x 1)

with P = ``backbone.dyhead_tower`` and N = ``neck.dyhead_blocks`` (or ``neck.1.dyhead_blocks`` behind another neck); the
prefix is found, not assumed. A convolution without bias gets zeros. The other way a bias that is not zero has no place
in mmdet's names, and that is an error.

The weights of the authors were trained with ``offset_mode="flat"`` and mmdet's with ``"crop"`` (see ``block``); the
loader sets that, and ``"resize"`` may be asked for before training on.

Files are read with ``weights_only=True``: tensors and plain values, never code.

Source of the names: the modules of github.com/microsoft/DynamicHead and of mmdet 3 (``DyHead``), read in 2026.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.repr.dynamic_head.network.block import DyHeadSettings, OffsetMode
from mlsim.repr.dynamic_head.network.neck import DyHeadNeck
from mlsim.repr.encoder import fill

Family = Literal["official", "mmdet"]

#: Our module names and those of each family inside a block.
_NAMES: dict[Family, dict[str, str]] = {
    "official": {
        "coarser.conv": "DyConv.0.conv",
        "coarser.norm": "DyConv.0.bn",
        "same.conv": "DyConv.1.conv",
        "same.norm": "DyConv.1.bn",
        "finer.conv": "DyConv.2.conv",
        "finer.norm": "DyConv.2.bn",
        "space.predict": "offset",
        "scale.project": "AttnConv.1",
        "task.squeeze": "relu.fc.0",
        "task.expand": "relu.fc.2",
    },
    "mmdet": {
        "coarser.conv": "spatial_conv_high.conv",
        "coarser.norm": "spatial_conv_high.norm",
        "same.conv": "spatial_conv_mid.conv",
        "same.norm": "spatial_conv_mid.norm",
        "finer.conv": "spatial_conv_low.conv",
        "finer.norm": "spatial_conv_low.norm",
        "space.predict": "spatial_conv_offset",
        "scale.project": "scale_attn_module.1",
        "task.squeeze": "task_attn_module.conv1.conv",
        "task.expand": "task_attn_module.conv2.conv",
    },
}
#: Prefix to write, and the offset mode that the weights were trained with.
_PREFIX: dict[Family, str] = {"official": "backbone.dyhead_tower", "mmdet": "neck.dyhead_blocks"}
_MODE: dict[Family, OffsetMode] = {"official": "flat", "mmdet": "crop"}
#: A key of a block: anything, the family's list of blocks, number, rest.
_KEY = re.compile(r"^(?:.*\.)?(?:dyhead_tower|dyhead_blocks)\.(\d+)\.(.+)$")


def load_neck(path: str | Path, *, offset_mode: OffsetMode | None = None, groups: int = 16) -> DyHeadNeck:
    """A neck with the weights of a published detector.

    Parameters
    ----------
    path : str or Path
        Checkpoint of detectron2 or mmdet (``.pth``).
    offset_mode : str or None
        None: what the weights were trained with.
    groups : int
        Groups of the normalisation; not in the file, 16 in everything published.

    Raises
    ------
    MissingError
        If there is no such file.
    ArtifactError
        If it cannot be read safely, or holds no complete Dynamic Head.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a checkpoint of detectron2 or mmdet")
    try:
        with limits.torch_file(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError) as error:
        reason = str(error).split("\n")[0][:120]
        raise ArtifactError(f"{path}: cannot be read as plain tensors ({reason}); save its state dict anew") from None
    return from_state(_state_of(content, path), str(path), offset_mode=offset_mode, groups=groups)


def from_state(
    state: Mapping[str, Tensor], what: str = "state", *, offset_mode: OffsetMode | None = None, groups: int = 16
) -> DyHeadNeck:
    """A neck from a state dict with the names of either family; other keys are left alone.

    Parameters
    ----------
    state : mapping of str to Tensor
    what : str
        Name of the source for messages.
    offset_mode, groups
        As in :func:`load_neck`.

    Raises
    ------
    ArtifactError
        If it holds no complete Dynamic Head.
    """
    inner = {(int(m[1]), m[2]): tensor for key, tensor in state.items() if (m := _KEY.match(key))}
    family: Family = "mmdet" if any(rest.startswith("spatial_conv") for _, rest in inner) else "official"
    ours: dict[str, Tensor] = {}
    for (number, rest), tensor in inner.items():
        for name, theirs in _NAMES[family].items():
            if rest.startswith(theirs + "."):
                ours[f"blocks.{number}.{name}{rest[len(theirs) :]}"] = _unfolded(name, rest, tensor)
    first = ours.get("blocks.0.same.conv.weight")
    if first is None:
        raise ArtifactError(
            f"{what}: holds no Dynamic Head; expected keys like '{_PREFIX['official']}.0.offset.weight'"
        )
    blocks = 1 + max(number for number, _ in inner)
    for number in range(blocks if family == "mmdet" else 0):
        for name in ("coarser", "same", "finer"):
            ours.setdefault(f"blocks.{number}.{name}.conv.bias", torch.zeros(first.shape[0]))
    settings = DyHeadSettings(
        in_channels=first.shape[1],
        channels=first.shape[0],
        blocks=blocks,
        groups=groups,
        offset_mode=offset_mode or _MODE[family],
    )
    neck = DyHeadNeck(settings)
    fill(neck, ours, what)
    return neck.eval()


def to_state(neck: DyHeadNeck, family: Family) -> dict[str, Tensor]:
    """Parameters of a neck under the names of a family.

    Raises
    ------
    InputError
        If an attention is off, or a convolution has a bias that mmdet has no name for.
    """
    chosen = neck.settings
    if not (chosen.scale and chosen.space and chosen.task):
        raise InputError("to_state: expected a neck with all three attentions; the published ones have no less")
    result: dict[str, Tensor] = {}
    for key, tensor in neck.state_dict().items():
        _, number, inside = key.split(".", 2)
        name, part = inside.rsplit(".", 1)
        if family == "mmdet" and part == "bias" and name in ("coarser.conv", "same.conv", "finer.conv"):
            if tensor.abs().max() > 0.0:
                raise InputError(f"to_state: {key} is not zero, and mmdet's deformable convolutions have no bias")
            continue
        if family == "mmdet" and part == "weight" and name.startswith("task."):
            tensor = tensor[:, :, None, None]
        result[f"{_PREFIX[family]}.{number}.{_NAMES[family][name]}.{part}"] = tensor.detach().clone()
    return result


def _unfolded(name: str, rest: str, tensor: Tensor) -> Tensor:
    """mmdet keeps the layers of the task attention as 1 x 1 convolutions; here they are linear."""
    return tensor.flatten(1) if name.startswith("task.") and rest.endswith("weight") else tensor


def _state_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside a checkpoint: itself, or under ``model`` (detectron2) or ``state_dict`` (mmdet)."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: expected a state dict, got {type(content).__name__}")
    return {str(key): tensor for key, tensor in content.items() if isinstance(tensor, Tensor)}
