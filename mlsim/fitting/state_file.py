"""State of a training on disk: tensors, numbers and strings in one file that appears whole, marked with its owner.

It is read with ``weights_only=True``, so that no code comes out of it. The identity is a digest of all that decides the
result (settings, model, data): the state of another training is refused.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from mlsim import limits
from mlsim.errors import CheckpointError, MissingError
from mlsim.files import write_bytes

_UNREADABLE = (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError)


def save_state(path: Path, identity: str, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, marked with what they belong to.

    Raises
    ------
    StorageError
        If the file system refuses; an earlier state is kept then.
    """
    memory = io.BytesIO()  # torch fails without a reason where a disk is full
    torch.save({"identity": identity, "content": content}, memory)
    write_bytes(path, memory.getvalue())


def load_state(path: Path, identity: str) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises
    ------
    MissingError
        If there is none.
    CheckpointError
        If it is damaged or has another identity.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no checkpoint to resume from; start without resuming")
    try:
        with limits.torch_file(path) as file:
            stored = torch.load(file, map_location="cpu", weights_only=True)
        owner, content = stored["identity"], dict(stored["content"])
    except _UNREADABLE as error:
        reason = str(error).split("\n")[0][:120]
        raise CheckpointError(f"{path}: damaged or no checkpoint ({reason}); start again elsewhere") from None
    if owner != identity:
        raise CheckpointError(
            f"{path}: belongs to a training with other settings or data (identity {owner}, this one {identity}); "
            "use the same ones or another directory"
        )
    return content
