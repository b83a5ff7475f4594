"""Heads that turn a question into the vector its answer's tokens are compared with.

    h(x) = W2 tanh(W1 x + b1) + b2

``dense`` is (W1, b1), ``out_proj`` is (W2, b2), the names of the released head files
(``model_qa_head_start.pt``, ``model_qa_head_end.pt``). Shapes are read from the file: the inner width need not equal
the encoder's, and W2 need not be square, as long as h maps the encoder's width to itself.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from mlsim import limits
from mlsim.errors import ArtifactError, MissingError

_UNREADABLE = (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError)
_NAMES = ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")


class QaHead(nn.Module):
    """``out_proj(tanh(dense(x)))`` from ``width`` over ``inner`` to ``width``."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        mapped: Tensor = self.out_proj(torch.tanh(self.dense(x)))
        return mapped


def load_head(path: str | Path, width: int) -> QaHead:
    """Read a head file for an encoder of ``width``.

    Raises
    ------
    MissingError
        If there is no such file.
    ArtifactError
        If it is damaged, holds other names, or its shapes do not chain from ``width`` to ``width``.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a head file (dense.*, out_proj.*)")
    try:
        with limits.torch_file(path) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ArtifactError(f"{path}: damaged or not a plain file of tensors ({reason})") from None
    if not isinstance(state, dict) or set(state) != set(_NAMES) or not all(torch.is_tensor(t) for t in state.values()):
        raise ArtifactError(f"{path}: expected the tensors {', '.join(_NAMES)}")
    inner = state["dense.weight"].shape[0]
    want = {"dense.weight": (inner, width), "dense.bias": (inner,), "out_proj.weight": (width, inner)}
    want["out_proj.bias"] = (width,)
    wrong = [f"{n} {tuple(state[n].shape)} instead of {want[n]}" for n in _NAMES if tuple(state[n].shape) != want[n]]
    if wrong:
        raise ArtifactError(f"{path}: does not fit an encoder of width {width}: {'; '.join(wrong)}")
    head = QaHead(width, inner)
    head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return head
