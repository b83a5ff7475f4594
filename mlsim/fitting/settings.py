"""Settings of a training run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlsim.settings import Settings


class TrainSettings(Settings):
    """How a model is fitted. All of it is part of the run's identity except ``max_minutes``.

    The learning rate rises linearly over ``warmup_steps``, then falls along half a cosine from ``learning_rate`` to
    ``final_fraction`` of it at the last step of ``epochs`` (or stays, with ``schedule: constant``). With ``ema_decay``
    above zero the average of the weights over about 1 / (1 - decay) steps is what is validated and kept.
    """

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_fraction: float = Field(0.01, ge=0, le=1)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    patience: int = Field(10, ge=1)
    block_ps: float = Field(100.0, gt=0)
    labels: Literal["projected", "raw"] = "projected"
    engine: Literal["auto", "exact", "tabulated"] = "auto"
    seed: int = Field(1, ge=0)
    max_minutes: float | None = Field(None, gt=0)

    def identity(self) -> str:
        """Digest of all that decides the result; an interrupted run is resumed only under the same one."""
        return self.model_copy(update={"max_minutes": None}).digest()
