"""What all objectives share: pairs of views in, a trained backbone out.

Where the views come from (augmented images, frames a lag apart) is a callable, so that nothing here knows about either.
Adam with a cosine from ``learning_rate`` to zero after a linear rise over the first twentieth of the steps.

The networks are small and a run takes seconds to minutes; nothing is written before the end, so that a killed run
leaves nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mlsim.fitting import steps
from mlsim.fitting.steps import Plan, Trained
from mlsim.repr.encoder import Progress
from mlsim.repr.hsic.networks import Network
from mlsim.repr.hsic.objectives import ObjectiveSettings, objective_for
from mlsim.repr.hsic.twins import Twins
from mlsim.seeds import torch_stream
from mlsim.settings import Settings

#: ``views(n, generator)`` gives two batches of n inputs, row by row two views of the same thing.
ViewSource = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


class PretrainSettings(Settings):
    """How a backbone is trained. ``target_decay`` zero means no target network."""

    objective: ObjectiveSettings = ObjectiveSettings()
    steps: int = Field(600, ge=1)
    batch_size: int = Field(256, ge=4)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    projector: tuple[int, ...] = ()
    target_decay: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _byol_has_a_target(self) -> PretrainSettings:
        if self.objective.name == "byol" and self.target_decay == 0.0:
            raise ValueError("objective 'byol' compares with a target network; set target_decay above zero, e.g. 0.99")
        return self


def pretrain(
    backbone: Network, views: ViewSource, settings: PretrainSettings, progress: Progress | None = None
) -> list[float]:
    """Train ``backbone`` (changed in place); returns the loss of every step.

    Parameters
    ----------
    backbone : Network
    views : callable
        ``views(n, generator) -> (first, second)``, inputs of the backbone.
    settings : PretrainSettings
    progress : callable, optional
        ``progress(done, total)`` in steps.

    Raises
    ------
    UnphysicalError
        If the loss is no number.
    """
    draws = torch_stream(settings.seed, "hsic.views")
    twins = Twins(backbone, settings.projector, settings.target_decay, torch_stream(settings.seed, "hsic.heads"))
    objective = objective_for(settings.objective)
    trained = [p for p in twins.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    last: list[Any] = []

    def loss(step: int) -> Tensor:
        pair = twins(*views(settings.batch_size, draws))
        last[:] = [pair]
        return objective(pair, draws)

    def after() -> None:
        objective.after_step(last[0])
        twins.after_step()

    plan = Plan(settings.steps, lambda step, group: group["initial_lr"] * _share(step, settings.steps))
    return steps.run(Trained(twins, optimizer, after), loss, plan, progress=progress)


def _share(step: int, total: int) -> float:
    """Learning rate of a step, relative to the largest."""
    rise = max(1, total // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
