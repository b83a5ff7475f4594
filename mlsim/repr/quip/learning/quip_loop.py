"""The training loop of everything here: AdamW, linear warm-up and decay, checkpoints from which a run goes on exactly.

Batches, masks and dropout of a step depend on the seed and the number of the step only, so that weights, optimizer
moments and the losses so far are the whole state: a run that was killed and resumed ends with the same weights as one
that was not.

A checkpoint is one file, replaced atomically, and removed by nobody: a finished run that is started again returns at
once. It is read with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mlsim.errors import UnphysicalError
from mlsim.repr.encoder_files import load_checkpoint, save_checkpoint
from mlsim.seeds import derive, numpy_stream
from mlsim.settings import Settings

CHECKPOINT = "checkpoint.pt"
Progress = Callable[[int, int], None]


class LoopSettings(Settings):
    """Length and optimizer of a training.

    Attributes
    ----------
    steps, batch : int
        Optimizer steps and items (passages or pairs) per step.
    learning_rate, warmup, weight_decay, clip : float
        Peak rate of AdamW; share of the steps over which it rises; decay; largest norm of the gradient.
    checkpoint_every : int
        Steps between checkpoints.
    seed : int
        Of batches, masks and dropout.
    """

    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)


class Objective(Protocol):
    """What is trained: a module, the number of items, and the loss of some of them."""

    @property
    def module(self) -> nn.Module:
        """What has the parameters."""

    def __len__(self) -> int: ...

    def loss(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Scalar loss of the items ``rows``; ``rng`` is this step's own."""


def batch_of(step: int, count: int, settings: LoopSettings) -> NDArray[np.int64]:
    """Items of ``step``: every epoch is a permutation, a step takes the next ``batch`` of them."""
    size = min(settings.batch, count)
    per_epoch = count // size
    epoch, k = divmod(step, per_epoch)
    order = numpy_stream(settings.seed, f"epoch-{epoch}").permutation(count)
    return order[k * size : (k + 1) * size]


def run(
    objective: Objective,
    settings: LoopSettings,
    identity: str,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train ``objective.module`` in place; losses of every step are returned.

    Parameters
    ----------
    identity : str
        Digest of model and data; a checkpoint of another one is refused.
    directory : Path, optional
        Where the checkpoint is kept and looked for; without one nothing is written.
    progress : callable, optional
        ``progress(done, total)`` in steps.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged or belongs to another training.
    UnphysicalError
        If the loss is not finite.
    StorageError
        If the checkpoint cannot be written.
    """
    module = objective.module
    identity = f"{identity}-{settings.digest()}"
    optimizer = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    losses: list[float] = []
    if directory is not None and (directory / CHECKPOINT).is_file():
        content = load_checkpoint(directory / CHECKPOINT, identity)
        module.load_state_dict(content["module"])
        optimizer.load_state_dict(content["optimizer"])
        losses = list(content["losses"])
    module.train()
    for step in range(len(losses), settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(settings.seed, f"dropout-{step}"))
            loss = objective.loss(batch_of(step, len(objective), settings), numpy_stream(settings.seed, f"step-{step}"))
            optimizer.zero_grad()
            loss.backward()
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise UnphysicalError(f"step {step}: the loss is {losses[-1]}; lower the learning rate")
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
        optimizer.step()
        done = step + 1
        if directory is not None and (done % settings.checkpoint_every == 0 or done == settings.steps):
            content = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            save_checkpoint(directory / CHECKPOINT, identity, content)
        if progress is not None:
            progress(done, settings.steps)
    module.eval()
    return losses


def _schedule(step: int, settings: LoopSettings) -> float:
    warm = max(int(settings.warmup * settings.steps), 1)
    return min((step + 1) / warm, (settings.steps - step) / max(settings.steps - warm, 1))
