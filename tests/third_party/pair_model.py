"""A learned energy of pairs of atoms."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mlsim.models.contract import AbstractEnergyModel, ModelSettings
from mlsim.models.radial import smooth_envelope
from mlsim.seeds import torch_stream


class PairsSettings(ModelSettings):
    cutoff_nm: float = 0.8


class Pairs(AbstractEnergyModel):
    """A smooth sum over pairs: E = sum_{i<j} w_i w_j exp(-d_ij / 0.2 nm) within a cutoff."""

    kind: ClassVar[str] = "pairs"
    settings_type: ClassVar[type[ModelSettings]] = PairsSettings

    def __init__(self, config: PairsSettings, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.cutoff_nm = config.cutoff_nm
        count = len(config.vocabulary)
        self.weight = torch.nn.Parameter(5.0 * torch.rand(count, generator=torch_stream(seed, "pairs")) + 2.0)

    def forward(self, positions: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        n = positions.size(1)
        first, second = torch.triu_indices(n, n, 1, device=positions.device).unbind(0)
        between = positions.index_select(1, second) - positions.index_select(1, first)
        distance = between.square().sum(-1).sqrt()
        weight = self.weight.index_select(0, types) + charges.to(self.weight.dtype)
        pair = weight.index_select(0, first) * weight.index_select(0, second)
        return (pair * torch.exp(-distance / 0.2) * smooth_envelope(distance, self.cutoff_nm)).sum(-1)
