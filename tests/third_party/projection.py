"""An encoder: rows of numbers through one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mlsim.repr import Encoder, InputSettings
from mlsim.repr.encoder import fill
from mlsim.shapes import require_shape


class Projection(Encoder):
    """Rows of eight numbers through one matrix."""

    kind: ClassVar[str] = "projection"

    def __init__(self, matrix: torch.nn.Linear) -> None:
        self.matrix = matrix
        self.inputs = InputSettings()
        self.to("cpu")

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.matrix.out_features}

    def state(self) -> dict[str, Tensor]:
        return dict(self.matrix.state_dict())

    @classmethod
    def build(cls, config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> Projection:
        matrix = torch.nn.Linear(8, int(config["width"]))
        if state is not None:
            fill(matrix, state, "projection encoder")
        return cls(matrix)

    @property
    def layers(self) -> tuple[str, ...]:
        return ("linear", "tanh")

    @property
    def pools(self) -> tuple[str, ...]:
        return ("mean",)

    @property
    def dimension(self) -> int:
        return self.matrix.out_features

    def require(self, inputs: Any) -> Any:
        return require_shape(inputs, (None, 8), "inputs of the projection encoder")

    def encode_batch(self, inputs: Any, layer: str, pool: str) -> Tensor:
        features = self.matrix(torch.as_tensor(np.ascontiguousarray(inputs), dtype=torch.float32))
        return features if layer == "linear" else features.tanh()

    def move(self, device: torch.device) -> None:
        self.matrix.to(device)
