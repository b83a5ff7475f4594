"""Joint energy-based models: one network for p(x) and p(y | x).

    log p(x, y) = log p(y | x) - u(x) + const        L = < -log p(y | x) > + L_density(x)

For K classes the network gives logits f(x) and both parts come from them (``models.ebm.joint_outputs``); for a
regression it gives u(x) and a mean. The first term is ordinary supervised learning, the second that of ``divergence``;
a classifier is the same objective with the density's weights at zero.

Reference: Grathwohl et al. 2020, arXiv:1912.03263 (JEM).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.errors import InputError
from mlsim.fitting.density.divergence import ContrastiveDivergence
from mlsim.fitting.density.problem import Problem
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.seeds import torch_stream

#: (vectors [B, d], labels [B]) -> mean of -log p(y | x).
Conditional = Callable[[Tensor, Tensor], Tensor]
#: (vectors [B, d], generator) -> vectors [B, d]: a random change that leaves the label as it is.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def unchanged(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """No augmentation."""
    return vectors


class JointDivergence:
    """Density and conditional learned together.

    Parameters
    ----------
    problem : Problem
    conditional : callable
        Mean of -log p(y | x) of a batch.
    labels, valid_labels : Tensor [F], [V]
    settings : ContrastiveSettings
    seed : int
    augment : callable
        Applied to every training batch before anything else.
    """

    unit = "-log p(y | x)"

    def __init__(
        self,
        problem: Problem,
        conditional: Conditional,
        labels: Tensor,
        valid_labels: Tensor,
        settings: ContrastiveSettings,
        seed: int,
        augment: Augmentation = unchanged,
    ) -> None:
        if len(labels) != len(problem.train) or len(valid_labels) != len(problem.valid):
            raise InputError(
                f"labels: expected one per example ({len(problem.train)} and {len(problem.valid)}), "
                f"got {len(labels)} and {len(valid_labels)}"
            )
        self.density = ContrastiveDivergence(problem, settings, seed)
        self.problem, self.conditional, self.augment, self.seed = problem, conditional, augment, seed
        self.labels, self.valid_labels = labels, valid_labels
        self.n_frames = len(problem.train)

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Loss of the training examples ``index``."""
        chosen = torch.from_numpy(index)
        generator = torch_stream(self.seed, f"contrastive.augment.{self.density.step}")
        data = self.augment(self.problem.train[chosen], generator)
        return self.conditional(data, self.labels[chosen]) + self.density.of(data)

    def readable(self, loss: float) -> float:
        """The loss itself."""
        return loss

    def validate(self) -> float:
        """Mean of -log p(y | x) on held-out examples."""
        with torch.no_grad():
            return float(self.conditional(self.problem.valid, self.valid_labels))

    def memory(self) -> dict[str, Tensor]:
        """That of the density."""
        return self.density.memory()

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Take over what :meth:`memory` gave."""
        self.density.recall(memory)
