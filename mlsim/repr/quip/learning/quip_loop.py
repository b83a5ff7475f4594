"""The training of everything here: AdamW, linear warm-up and decay, on the loop of :mod:`mlsim.fitting.steps`.

Batches, masks and dropout of a step depend on the seed and the number of the step only. The checkpoint is removed by
nobody: a finished run that is started again returns at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mlsim.fitting import steps
from mlsim.fitting.steps import Kept, Plan, Progress, Trained
from mlsim.seeds import derive, numpy_stream
from mlsim.settings import Settings

CHECKPOINT = "checkpoint.pt"


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

    def loss(step: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(settings.seed, f"dropout-{step}"))
            return objective.loss(batch_of(step, len(objective), settings), numpy_stream(settings.seed, f"step-{step}"))

    optimizer = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    plan = Plan(settings.steps, lambda step, group: group["initial_lr"] * _schedule(step, settings), settings.clip)
    owner = f"{identity}-{settings.digest()}"
    kept = None if directory is None else Kept(directory / CHECKPOINT, owner, settings.checkpoint_every)
    return steps.run(Trained(module, optimizer), loss, plan, kept, progress)


def _schedule(step: int, settings: LoopSettings) -> float:
    warm = max(int(settings.warmup * settings.steps), 1)
    return min((step + 1) / warm, (settings.steps - step) / max(settings.steps - warm, 1))
