"""Training by steps: one loss per step number, a learning rate per step, and a state from which it goes on exactly.

For trainings without epochs and held-out data, whose batches depend on the number of the step (``train.loop`` is for
the others). Per step k:

    g = grad L_k(theta),   |g| clipped to ``clip``,   theta <- optimizer(theta, g) at the rate ``rate(k, group)``

Weights, optimizer moments, the losses so far and what the objective remembers are the whole state, so that a training
that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mlsim.errors import UnphysicalError
from mlsim.fitting.state_file import load_state, save_state

#: ``progress(done, total)`` in steps.
Progress = Callable[[int, int], object]
#: ``rate(step, group)``: learning rate of step number ``step`` (from 0) for a group of parameters of the optimizer;
#: ``group["initial_lr"]`` is the rate that the group was made with.
Rate = Callable[[int, dict[str, Any]], float]


@dataclass(frozen=True)
class Plan:
    """Number of steps, learning rate per step, largest norm of the gradient (None: not clipped)."""

    steps: int
    rate: Rate
    clip: float | None = None


class Memory(Protocol):
    """What an objective remembers between steps, e.g. a random generator."""

    def remembered(self) -> dict[str, Any]:
        """Tensors, numbers and strings."""

    def recall(self, remembered: dict[str, Any]) -> None:
        """Take over what :meth:`remembered` gave."""


@dataclass(frozen=True)
class Kept:
    """Where the state is kept, whose it is, how often it is written, and what else belongs to it."""

    path: Path
    identity: str
    every: int
    memory: Memory | None = None


@dataclass(frozen=True)
class Trained:
    """A module with its optimizer; ``after`` is called at the end of every step."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    after: Callable[[], None] | None = None


def run(
    trained: Trained,
    loss: Callable[[int], Tensor],
    plan: Plan,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train in place, from the kept state on if there is one.

    Parameters
    ----------
    loss : callable
        Scalar loss of a step number, counted from 0.
    kept : Kept, optional
        Without it nothing is written.
    progress : callable, optional
        ``progress(done, total)`` after every step.

    Returns
    -------
    list of float
        Loss of every step, those before a resume too.

    Raises
    ------
    CheckpointError
        If the kept state is damaged or belongs to another training.
    UnphysicalError
        If a loss is not finite.
    StorageError
        If the state cannot be written.
    """
    module, optimizer = trained.module, trained.optimizer
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    losses = _restore(trained, kept) if kept is not None and kept.path.is_file() else []
    module.train()
    for step in range(len(losses), plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step, group)
        value = loss(step)
        losses.append(value.item())
        if not math.isfinite(losses[-1]):
            raise UnphysicalError(
                f"the loss became {losses[-1]} in step {step + 1}; lower learning_rate or check the inputs"
            )
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if plan.clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
        optimizer.step()
        if trained.after is not None:
            trained.after()
        if kept is not None and (len(losses) % kept.every == 0 or len(losses) == plan.steps):
            _store(trained, kept, losses)
        if progress is not None:
            progress(step + 1, plan.steps)
    module.eval()
    return losses


def _store(trained: Trained, kept: Kept, losses: list[float]) -> None:
    content = {
        "module": trained.module.state_dict(),
        "optimizer": trained.optimizer.state_dict(),
        "losses": losses,
        "memory": {} if kept.memory is None else kept.memory.remembered(),
    }
    save_state(kept.path, kept.identity, content)


def _restore(trained: Trained, kept: Kept) -> list[float]:
    content = load_state(kept.path, kept.identity)
    trained.module.load_state_dict(content["module"])
    trained.optimizer.load_state_dict(content["optimizer"])
    if kept.memory is not None:
        kept.memory.recall(content["memory"])
    return list(content["losses"])
