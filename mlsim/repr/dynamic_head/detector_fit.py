"""Training of a detector on scenes that are made as they are needed.

What: AdamW, learning rate rising linearly and then falling along half a cosine to zero, gradient norm clipped. No scene
is seen twice: the scenes of step k come from a stream that depends on the seed and k only. Weights and optimizer
moments after a step are therefore the whole state, and a training that was killed goes on as if it had not been.

Offsets and masks of deformable convolutions learn at ``offset_rate`` times the rate of the rest. Why it can be set: a
step of AdamW is as large as its rate whatever the gradient, so that all the inputs of an offset together can move
a sampling point by whole pixels per step; DCNv2 was trained with 0.1 (arXiv:1811.11168).
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from mlsim.errors import CheckpointError, UnphysicalError
from mlsim.repr.dynamic_head.detector import Detector, write_whole
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
    identity = _identity(detector, settings)
    done, losses, running = 0, [], 0.0
    if directory is not None and (directory / CHECKPOINT).is_file():
        found = _load(directory / CHECKPOINT, identity)
        detector.load_state_dict(found["weights"])
        optimizer.load_state_dict(found["optimizer"])
        done, losses, running = found["step"], list(found["losses"]), found["running"]
    detector.train()
    for step in range(done, settings.steps):
        generator = numpy_stream(settings.seed, f"scenes/{step}")
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * _schedule(step, settings)
        loss = detector.loss([maker(generator) for _ in range(settings.batch_size)])
        if not torch.isfinite(loss):
            raise UnphysicalError(f"detector training: the loss is {loss.item()} at step {step}; lower learning_rate")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), settings.clip_norm)
        optimizer.step()
        running += loss.item() / _RECORD
        if (step + 1) % _RECORD == 0:
            losses.append(running)
            running = 0.0
        last = step + 1 == settings.steps
        if directory is not None and (last or (step + 1) % settings.checkpoint_steps == 0):
            state = {
                "identity": identity,
                "step": step + 1,
                "weights": detector.state_dict(),
                "optimizer": optimizer.state_dict(),
                "losses": losses,
                "running": running,
            }
            write_whole(directory / CHECKPOINT, lambda path, state=state: torch.save(state, path))  # type: ignore[misc]
        if progress is not None:
            progress(step + 1, settings.steps)
    detector.eval()
    return FitResult(tuple(losses), settings.steps)


def _groups(detector: Detector, settings: FitSettings) -> list[dict[str, Any]]:
    """Parameters by learning rate: first all but the offsets, then the offsets, if there are any."""
    moving = [p for part in detector.modules() if isinstance(part, SpatialAttention) for p in part.parameters()]
    numbers = {id(p) for p in moving}
    rest = [p for p in detector.parameters() if id(p) not in numbers]
    rates = (settings.learning_rate, settings.learning_rate * settings.offset_rate)
    groups: list[dict[str, Any]] = [
        {"params": part, "lr": r, "highest": r} for part, r in zip((rest, moving), rates, strict=True)
    ]
    return [group for group in groups if group["params"]]


def _schedule(step: int, settings: FitSettings) -> float:
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return rise * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))


def _identity(detector: Detector, settings: FitSettings) -> str:
    kept = settings.model_dump(mode="json", exclude={"checkpoint_steps"})
    text = json.dumps([detector.settings.model_dump(mode="json"), kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _load(path: Path, identity: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        own = found["identity"]
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0][:120]
        raise CheckpointError(f"{path}: damaged or no detector checkpoint ({reason}); start elsewhere") from None
    if own != identity:
        raise CheckpointError(
            f"{path}: belongs to a training with other settings (identity {own}, this one {identity}); "
            "use the same ones or another directory"
        )
    return found
