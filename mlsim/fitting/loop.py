"""The training loop: minibatches, Adam, a learning-rate schedule, averaging, early stopping, checkpoints.

It knows nothing about forces. An :class:`Objective` gives the loss of a minibatch and the error on held-out data; the
loop lowers the one and keeps the parameters with the lowest other. Force matching is one objective, and others (mean
forces with covariances, contrastive losses) take the same loop.

    g <- grad loss, scaled down to norm c if larger
    w <- AdamW(w, g, eta_k)
    eta_k = eta (k / k0) for k < k0, then eta [x + (1 - x) (1 + cos(pi (k - k0) / (K - k0))) / 2]
    v <- b v + (1 - b) w,   b = min(beta, (1 + k) / (10 + k))

Symbols: eta ``learning_rate``, k ``step``, k0 ``warmup_steps``, K total steps, x ``final_fraction``, c ``clip_norm``,
v ``average``, beta ``ema_decay``.

A checkpoint is written after every epoch. Resumed on the same machine with the same number of threads, a run on the CPU
continues bit for bit. A loss that is no number stops the run; the last checkpoint and the best parameters stay.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlsim.dataset import batches
from mlsim.errors import UnphysicalError
from mlsim.fitting import checkpoint, history
from mlsim.fitting.checkpoint import TrainState
from mlsim.fitting.settings import TrainSettings
from mlsim.progress_bar import Bar

#: Why a run ended: all epochs done, no better for ``patience`` epochs, or out of time.
Stopped = Literal["finished", "early", "time"]


class Objective(Protocol):
    """What is minimised."""

    n_frames: int
    #: Name and unit of what :meth:`validate` returns.
    unit: str

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Mean loss of the training frames ``index``, of order one, differentiable."""
        ...

    def readable(self, loss: float) -> float:
        """A mean loss in the unit of :meth:`validate`."""
        ...

    def validate(self) -> float:
        """Error on held-out data at the model's present parameters; lower is better."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """An objective with a state of its own, which goes into the checkpoint."""

    def memory(self) -> dict[str, Tensor]:
        """The state, as tensors that later calls do not change."""
        ...

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Take over what :meth:`memory` gave."""
        ...


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Learning rate of step number ``step`` (from 0) of ``total``."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    share = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.learning_rate * share


def run(
    model: nn.Module,
    objective: Objective,
    settings: TrainSettings,
    state: TrainState,
    directory: Path,
    progress: Literal["auto", "off"] = "auto",
) -> Stopped:
    """Train ``model`` from ``state`` on; both are changed. At the end the model has the best parameters.

    Raises
    ------
    UnphysicalError
        If the loss or its gradient is no number.
    StorageError
        If the checkpoint cannot be written.
    """
    trained = _Trained(model, settings)
    trained.restore(state)
    if isinstance(objective, Remembering) and state.memory:
        objective.recall(state.memory)
    per_epoch = batches.count(objective.n_frames, settings.batch_size)
    started, stopped = time.monotonic(), _verdict(state, settings)
    if state.history:
        history.write_table(state.history, directory)  # a kill may have come between checkpoint and table
    size = min(settings.batch_size, objective.n_frames)
    shown = (
        None
        if progress == "off"
        else Bar(settings.epochs * per_epoch * size, state.epoch * per_epoch * size, "training", "frames")
    )
    with shown or nullcontext():
        while stopped is None:
            before = time.monotonic()
            total = 0.0
            for k, index in enumerate(
                batches.shuffled(objective.n_frames, settings.batch_size, settings.seed, state.epoch)
            ):
                step = state.epoch * per_epoch + k
                rate = learning_rate(settings, step, settings.epochs * per_epoch)
                total += trained.step(objective, index, rate, step, state.epoch)
                if shown is not None:
                    shown.update(len(index))
            spent = time.monotonic() - before
            valid = trained.validate(objective)
            if not math.isfinite(valid):
                trained.use(state.best)
                raise UnphysicalError(_advice("held-out error", valid, state.epoch, step))
            row = {
                "epoch": state.epoch + 1.0,
                "step": (state.epoch + 1.0) * per_epoch,
                "learning_rate": rate,
                "train": objective.readable(total / per_epoch),
                "valid": valid,
                "frames_per_s": per_epoch * size / spent,
                "seconds": time.monotonic() - before,
            }
            trained.record(state, row)
            if isinstance(objective, Remembering):
                state.memory = objective.memory()
            checkpoint.save(state, directory)
            history.write_table(state.history, directory)
            if shown is not None:
                shown.describe(f"train {row['train']:.2f}, held out {valid:.2f}, best epoch {state.best_epoch}")
            stopped = _verdict(state, settings)
            minutes = (time.monotonic() - started + row["seconds"]) / 60.0
            if stopped is None and settings.max_minutes is not None and minutes > settings.max_minutes:
                stopped = "time"
    trained.use(state.best)
    return stopped


def _verdict(state: TrainState, settings: TrainSettings) -> Stopped | None:
    if state.epoch >= settings.epochs:
        return "finished"
    return "early" if state.epoch - state.best_epoch >= settings.patience else None


def _advice(what: str, value: float, epoch: int, step: int) -> str:
    return (
        f"{what} became {value} in epoch {epoch + 1}, step {step + 1}; the state after epoch {epoch} is kept. "
        "Check the labels, or lower learning_rate or clip_norm"
    )


class _Trained:
    """The model with its optimizer and moving average."""

    def __init__(self, model: nn.Module, settings: TrainSettings) -> None:
        self.model = model
        self.settings = settings
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}

    def weights(self) -> dict[str, Tensor]:
        """A copy of the parameters by name."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def use(self, weights: dict[str, Tensor]) -> None:
        """Put parameters into the model (none: leave it)."""
        if weights:
            self.model.load_state_dict(weights)

    def restore(self, state: TrainState) -> None:
        """Take over the state of a checkpoint; a fresh one is filled from the model."""
        if state.epoch:
            self.use(state.weights)
            self.optimizer.load_state_dict(state.optimizer)
            self.average = {name: tensor.clone() for name, tensor in state.average.items()}
        else:
            state.best = self.weights()
            if self.settings.ema_decay > 0:
                self.average = self.weights()

    def step(self, objective: Objective, index: NDArray[np.int64], rate: float, step: int, epoch: int) -> float:
        """One update; returns the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = objective.loss(index)
        value = loss.item()
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm).item()
            if not math.isfinite(norm):
                value = norm
        if not math.isfinite(value):
            self.use(self.best)
            raise UnphysicalError(_advice("training loss or its gradient", value, epoch, step))
        self.optimizer.step()
        if self.average:
            decay = min(self.settings.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, tensor in self.model.state_dict().items():
                    self.average[name].lerp_(tensor, 1 - decay)
        return value

    def validate(self, objective: Objective) -> float:
        """Held-out error of the parameters that would be kept (the averaged ones if there are)."""
        if not self.average:
            return objective.validate()
        present = self.weights()
        self.use(self.average)
        error = objective.validate()
        self.use(present)
        return error

    def record(self, state: TrainState, row: dict[str, float]) -> None:
        """Enter a finished epoch into ``state``."""
        state.epoch += 1
        state.history.append(row)
        state.weights = self.weights()
        state.average = {name: tensor.clone() for name, tensor in self.average.items()}
        state.optimizer = self.optimizer.state_dict()
        best = min((r["valid"] for r in state.history[:-1]), default=math.inf)
        if row["valid"] < best:
            state.best_epoch = state.epoch
            state.best = state.average if self.average else state.weights
        self.best = state.best
