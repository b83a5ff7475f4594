"""Checkpoints of a training run: everything needed to go on as if nothing had happened.

One file, replaced atomically at the end of every epoch. It is read with ``weights_only=True``: tensors, numbers and
strings come out of it, never code. Batches depend on seed and epoch number only (``dataset.batches``), the learning
rate on the step only, so that weights, optimizer moments, averages and the history are the whole state.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlsim import limits
from mlsim.errors import CheckpointError, MissingError
from mlsim.files import write_bytes
from mlsim.locks import LOCK, claim
from mlsim.starts import Layout, Start, require_start, take

FORMAT = "mlsim-training"
VERSION = 1
NAME = "checkpoint.pt"
#: What a training leaves before its first checkpoint, and after it.
_BEFORE = ("train.yaml", "contrastive.yaml", "peptides.csv", "guard.npz", "fit.yaml", "populations.yaml")
_RESULTS = ("config.yaml", "weights.safetensors", "history.csv", "result.json")
LAYOUT = Layout(
    what="training",
    record=NAME,
    checkpoints=(NAME,),
    own=(*_BEFORE, *_RESULTS),
    holds_nothing=lambda path: path.name not in _RESULTS,
)
_UNREADABLE = (
    OSError,
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
)


@dataclass
class TrainState:
    """State at the end of an epoch.

    Attributes
    ----------
    identity : str
        Digest of model settings, training settings and data; another run's checkpoint is refused.
    epoch : int
        Epochs done.
    weights, average, best : dict of Tensor
        Parameters now, their moving average (empty without one), and those of the best epoch.
    optimizer : dict
    best_epoch : int
    history : list of dict
        One row per epoch, numbers only.
    memory : dict of Tensor
        What the objective remembers between epochs (particles of a replay buffer); empty for most.
    """

    identity: str
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    memory: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def begin(directory: Path, identity: str, start: Start) -> Iterator[TrainState]:
    """Hold ``directory`` for a training: a fresh state, or the one that its checkpoint holds.

    A training that was killed before its first checkpoint begins anew, also with ``resume``.

    Raises
    ------
    OccupiedError
        ``new`` in a directory that holds something, or any start in one that is in use.
    MissingError, CheckpointError
        As :func:`load` and :func:`mlsim.starts.take`.
    """
    require_start(directory, LAYOUT, start)
    with claim(directory):
        yield load(directory, identity) if take(directory, LAYOUT, start) == "resume" else TrainState(identity)
        (directory / LOCK).unlink(missing_ok=True)  # what trains on in it is another file


def save(state: TrainState, directory: Path) -> None:
    """Write the checkpoint of ``directory``.

    Raises
    ------
    StorageError
        If the file system refuses; an earlier checkpoint is kept then.
    """
    content = {"format": FORMAT, "version": VERSION, **{f.name: getattr(state, f.name) for f in fields(state)}}
    memory = io.BytesIO()  # torch fails without a reason where a disk is full
    torch.save(content, memory)
    write_bytes(directory / NAME, memory.getvalue())


def load(directory: Path, identity: str) -> TrainState:
    """Read the checkpoint of ``directory``.

    Raises
    ------
    MissingError
        If there is none.
    CheckpointError
        If it is damaged or belongs to a run with other settings or data.
    """
    path = directory / NAME
    if not path.is_file():
        raise MissingError(f"{path}: no checkpoint to resume from; start the training without resuming")
    try:
        with limits.torch_file(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise KeyError("format")
        state = TrainState(**content)
    except _UNREADABLE as error:
        reason = str(error).split("\n")[0][:120]
        raise CheckpointError(f"{path}: damaged or no training checkpoint ({reason}); start again elsewhere") from None
    if state.identity != identity:
        raise CheckpointError(
            f"{path}: belongs to a run with other settings, model or data "
            f"(identity {state.identity}, this run {identity}); use the same ones or another directory"
        )
    return state
