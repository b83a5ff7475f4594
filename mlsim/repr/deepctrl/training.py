"""Training: every batch is learnt at a rule strength of its own.

    alpha ~ Beta(beta, beta)                                            one per batch
    L     = alpha L_rule + rho (1 - alpha) L_task                       objective "controlled"
    L     = L_task,   L = L_task + lambda L_rule                        baselines "task" and "task+rule"

With beta = 0.1 nearly all batches have alpha near 0 or 1: both encoders learn their own job, and what lies between is
interpolation. Training stops when the loss on validation data, averaged over a fixed set of strengths drawn from the
same law, has not improved for ``patience`` epochs; the best parameters are kept.

L_task is the mean absolute or squared error in units of the scatter of the targets, so that columns of different
units count alike. L_rule is the mean violation where the rule applies.

Symbols: beta ``beta``, rho ``balance``, lambda ``rule_weight``.

Reference: Seo et al., NeurIPS 2021 (arXiv:2106.07804), algorithm 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mlsim.errors import InputError, UnphysicalError
from mlsim.repr.deepctrl.balance import Balance, initial
from mlsim.repr.deepctrl.dial_network import RuleControlled
from mlsim.repr.deepctrl.rules import Rule
from mlsim.seeds import numpy_stream, torch_stream
from mlsim.settings import Settings

#: Strengths at which validation looks: quantiles of the law of alpha.
_VALIDATION_STRENGTHS = 5


class TrainingSettings(Settings):
    """How a network is trained.

    Attributes
    ----------
    objective : "controlled", "task" or "task+rule"
    beta : float
        Of the law of alpha.
    rho : "init", "epoch" or a number
        Balance: from the untrained network, estimated anew in every epoch (for comparison: it collapses), or given.
    rho_low, rho_high : float
        Clamp of an estimated balance.
    rule_weight : float
        lambda of ``task+rule``.
    task_loss : "mae" or "mse"
    input_noise : float
        Standard deviation of fresh noise on the inputs of every training batch, in their unit.
    epochs, patience, batch_size, learning_rate
    """

    objective: Literal["controlled", "task", "task+rule"] = "controlled"
    beta: float = Field(0.1, gt=0)
    rho: Literal["init", "epoch"] | float = "init"
    rho_low: float = Field(0.1, gt=0)
    rho_high: float = Field(10.0, gt=0)
    rule_weight: float = Field(1.0, ge=0)
    task_loss: Literal["mae", "mse"] = "mae"
    input_noise: float = Field(0.0, ge=0)
    epochs: int = Field(1000, ge=1)
    patience: int = Field(10, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0)


@dataclass(frozen=True)
class Fitted:
    """What a training came to: the balance, epochs done, best validation loss."""

    balance: Balance
    epochs: int
    validation_loss: float


def fit(
    network: RuleControlled,
    rule: Rule,
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train ``network`` in place; at the end it has the parameters with the best validation loss.

    Parameters
    ----------
    network : RuleControlled
    rule : Rule
    train, valid : (x [n, D], y [n, O])
    settings : TrainingSettings
    seed : int
        Root seed of batches, strengths and perturbations.
    progress : callable, optional
        ``progress(epoch, epochs)`` after every epoch.

    Raises
    ------
    InputError
        If the data do not fit the network or are empty.
    UnphysicalError
        If the loss is no number.

    Warns
    -----
    BalanceWarning
        If the rule holds for the untrained network, see :mod:`mlsim.repr.deepctrl.balance`.
    """
    for name, (x, y) in (("train", train), ("valid", valid)):
        _require(network, x, y, name)
    network.standardise(*train)
    work = _Losses(network, rule, settings, torch_stream(seed, "deepctrl.perturbation"))
    balance = work.balance(*train)
    strengths = numpy_stream(seed, "deepctrl.alpha")
    order = torch_stream(seed, "deepctrl.order")
    checks = _quantiles(settings.beta, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    best, best_loss, best_epoch, epoch = copy.deepcopy(network.state_dict()), math.inf, 0, 0
    for epoch in range(1, settings.epochs + 1):
        if settings.rho == "epoch" and settings.objective == "controlled" and epoch > 1:
            balance = work.balance(*train)
        for batch in torch.randperm(len(train[0]), generator=order).split(settings.batch_size):
            alpha = float(strengths.beta(settings.beta, settings.beta))
            loss = work(work.noisy(train[0][batch]), train[1][batch], alpha, balance.rho)
            if not torch.isfinite(loss):
                raise UnphysicalError(f"the loss became {loss.item()} in epoch {epoch}; lower the learning rate")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found = work.validate(*valid, checks, balance.rho, seed)
        if found < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), found, epoch
        if progress is not None:
            progress(epoch, settings.epochs)
        if epoch - best_epoch >= settings.patience:
            break
    network.load_state_dict(best)
    return Fitted(balance, epoch, best_loss)


class _Losses:
    def __init__(
        self, network: RuleControlled, rule: Rule, settings: TrainingSettings, generator: torch.Generator
    ) -> None:
        self.network, self.rule, self.settings, self.generator = network, rule, settings, generator

    def __call__(self, x: Tensor, y: Tensor, alpha: float, rho: float) -> Tensor:
        prediction = self.network(x, alpha)
        objective = self.settings.objective
        if objective == "task":
            return self.task(prediction, y)
        broken = self.broken(x, prediction, alpha, self.generator)
        if objective == "task+rule":
            return self.task(prediction, y) + self.settings.rule_weight * broken
        return alpha * broken + rho * (1.0 - alpha) * self.task(prediction, y)

    def noisy(self, x: Tensor) -> Tensor:
        if self.settings.input_noise == 0:
            return x
        return x + self.settings.input_noise * torch.randn(x.shape, generator=self.generator, dtype=x.dtype)

    def task(self, prediction: Tensor, y: Tensor) -> Tensor:
        error = (prediction - y) / self.network.y_scale
        return error.abs().mean() if self.settings.task_loss == "mae" else error.square().mean()

    def broken(self, x: Tensor, prediction: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
        amount, applies = self.rule.violation(lambda z: self.network(z, alpha), x, prediction, generator)
        return amount.sum() / applies.sum().clamp(min=1)

    @torch.no_grad()
    def balance(self, x: Tensor, y: Tensor) -> Balance:
        if self.settings.objective != "controlled" or not isinstance(self.settings.rho, str):
            rho = 1.0 if isinstance(self.settings.rho, str) else self.settings.rho
            return Balance(rho, rho)
        x = self.noisy(x)
        rule = self.broken(x, self.network(x, 1.0), 1.0, self.generator).item()
        task = self.task(self.network(x, 0.0), y).item()
        return initial(rule, task, self.settings.rho_low, self.settings.rho_high)

    @torch.no_grad()
    def validate(self, x: Tensor, y: Tensor, strengths: list[float], rho: float, seed: int) -> float:
        training, self.generator = self.generator, torch_stream(seed, "deepctrl.validation")
        try:
            return sum(self(x, y, alpha, rho).item() for alpha in strengths) / len(strengths)
        finally:
            self.generator = training


def _quantiles(beta: float, seed: int) -> list[float]:
    from scipy.stats import beta as law

    levels = [(k + 0.5) / _VALIDATION_STRENGTHS for k in range(_VALIDATION_STRENGTHS)]
    return [float(law.ppf(level, beta, beta)) for level in levels]


def _require(network: RuleControlled, x: Tensor, y: Tensor, name: str) -> None:
    wanted = (network.settings.inputs, network.settings.outputs)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) == 0 or (x.shape[1], y.shape[1]) != wanted:
        raise InputError(
            f"{name} data: expected x [n, {wanted[0]}] and y [n, {wanted[1]}], got {list(x.shape)} and {list(y.shape)}"
        )
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError(f"{name} data: expected finite numbers, got NaN or infinity")
