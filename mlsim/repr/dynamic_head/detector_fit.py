"""Training of a detector on scenes that are made as they are needed.

What: AdamW, learning rate rising linearly and then falling along half a cosine to zero, gradient norm clipped. No scene
is seen twice: the scenes of step k come from a stream that depends on the seed and k only. Weights and optimizer
moments after a step are therefore the whole state, and a training that was killed goes on as if it had not been.

Offsets and masks of deformable convolutions learn at ``offset_rate`` times the rate of the rest. Why it can be set: a
step of AdamW is as large as its rate whatever the gradient, so that all the inputs of an offset together can move
a sampling point by whole pixels per step; DCNv2 was trained with 0.1 (arXiv:1811.11168).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from mlsim.fitting import steps
from mlsim.fitting.steps import Kept, Plan, Trained
from mlsim.records import digest_of_json
from mlsim.repr.dynamic_head.detector import Detector
from mlsim.repr.dynamic_head.network.attention import SpatialAttention
from mlsim.repr.dynamic_head.scenes.scene import Maker
from mlsim.seeds import numpy_stream
from mlsim.settings import Settings

CHECKPOINT = "checkpoint.pt"
#: Steps over which the recorded loss is averaged.
_RECORD = 25


class FitSettings(Settings):
    """Settings of a training; all of them and the detector's decide the result."""

    steps: int = Field(600, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0.0)
    offset_rate: float = Field(1.0, gt=0.0, description="learning rate of offsets and masks over that of the rest")
    weight_decay: float = Field(1e-3, ge=0.0)
    warmup_steps: int = Field(50, ge=0)
    clip_norm: float = Field(5.0, gt=0.0)
    checkpoint_steps: int = Field(100, ge=1)
    seed: int = Field(1, ge=0)


@dataclass(frozen=True)
class FitResult:
    """Loss [n] averaged over every 25 steps, and the steps done."""

    losses: tuple[float, ...]
    steps: int


def fit(
    detector: Detector,
    maker: Maker,
    settings: FitSettings | None = None,
    *,
    directory: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FitResult:
    """Train ``detector`` in place.

    Parameters
    ----------
    detector : Detector
    maker : callable
        Gives a scene for a numpy generator; all scenes of one size.
    settings : FitSettings or None
    directory : Path or None
        Where ``checkpoint.pt`` is kept; one that is there is continued.
    progress : callable or None
        ``progress(steps done, steps)`` after every step.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged or belongs to another training.
    UnphysicalError
        If the loss becomes NaN or infinite.
    """
    settings = settings or FitSettings()
    optimizer = torch.optim.AdamW(_groups(detector, settings), weight_decay=settings.weight_decay, betas=(0.9, 0.99))
    plan = Plan(settings.steps, lambda step, group: group["initial_lr"] * _schedule(step, settings), settings.clip_norm)
    kept = None
    if directory is not None:
        kept = Kept(directory / CHECKPOINT, _identity(detector, settings), settings.checkpoint_steps)

    def loss(step: int) -> Tensor:
        generator = numpy_stream(settings.seed, f"scenes/{step}")
        return detector.loss([maker(generator) for _ in range(settings.batch_size)])

    losses = steps.run(Trained(detector, optimizer), loss, plan, kept, progress)
    whole = range(0, len(losses) - _RECORD + 1, _RECORD)
    return FitResult(tuple(sum(x / _RECORD for x in losses[k : k + _RECORD]) for k in whole), settings.steps)


def _groups(detector: Detector, settings: FitSettings) -> list[dict[str, Any]]:
    """Parameters by learning rate: first all but the offsets, then the offsets, if there are any."""
    moving = [p for part in detector.modules() if isinstance(part, SpatialAttention) for p in part.parameters()]
    numbers = {id(p) for p in moving}
    rest = [p for p in detector.parameters() if id(p) not in numbers]
    rates = (settings.learning_rate, settings.learning_rate * settings.offset_rate)
    groups: list[dict[str, Any]] = [{"params": part, "lr": r} for part, r in zip((rest, moving), rates, strict=True)]
    return [group for group in groups if group["params"]]


def _schedule(step: int, settings: FitSettings) -> float:
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return rise * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))


def _identity(detector: Detector, settings: FitSettings) -> str:
    kept = settings.model_dump(mode="json", exclude={"checkpoint_steps"})
    return digest_of_json([detector.settings.model_dump(mode="json"), kept])
