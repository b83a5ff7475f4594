"""Files of this room that appear whole or not at all, and checkpoints that hold no code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mlsim.errors import CheckpointError, MissingError, StorageError

_UNREADABLE = (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` at the end of the block.

    Raises
    ------
    StorageError
        If the file system refuses; what was at ``path`` stays then.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written: {error}; free space or choose another place") from None
    finally:
        beside.unlink(missing_ok=True)


def save_checkpoint(path: Path, identity: str, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, marked with what they belong to."""
    with whole(path) as beside, open(beside, "wb") as handle:
        torch.save({"identity": identity, "content": content}, handle)
        handle.flush()
        os.fsync(handle.fileno())


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

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
        found = torch.load(path, map_location="cpu", weights_only=True)
        belongs, content = found["identity"], found["content"]
    except _UNREADABLE as error:
        reason = str(error).split("\n")[0][:120]
        raise CheckpointError(f"{path}: damaged or no checkpoint ({reason}); start again elsewhere") from None
    if belongs != identity:
        raise CheckpointError(
            f"{path}: belongs to other settings or data (identity {belongs}, this one {identity}); use the same ones"
        )
    assert isinstance(content, dict)
    return content
