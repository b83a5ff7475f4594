"""Denoising at many noise levels with one energy: a landscape that leads to the data from anywhere.

    y = x + sigma e,   log sigma uniform in [log sigma_0, log sigma_1]
    L = < |sigma_0^2 grad u(y) - (y - x)|^2 / sigma^2 > / f

At sigma = sigma_0 this is denoising score matching (``denoising``), so that exp(-u) is the density of the data smoothed
by sigma_0; farther out, u grows like the squared distance from the data over 2 sigma_0^2. Why: with one small noise u
means nothing away from the data, and a chain that starts anywhere else never arrives; with one large noise everything
is blurred. Sampling anneals: at temperature (sigma / sigma_0)^2 the density is about the data smoothed by sigma.

u is ``Problem.energy``; give it a gain of 1 / sigma_0^2 over the network, whose values then are of order one.

Symbols: sigma_0 ``least``, sigma_1 ``most`` (units of ``Problem.length``), e ``unit``, f ``symmetry.freedom``.

Reference: Li, Chen & Sommer 2019, arXiv:1910.07762 (multi-scale denoising score matching without noise input).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.errors import SettingsError
from mlsim.fitting.density import denoising
from mlsim.fitting.density.joint_objective import Augmentation, unchanged
from mlsim.fitting.density.problem import Problem
from mlsim.seeds import torch_stream

#: Held-out examples looked at.
_MOST_HELD_OUT = 500


class MultiscaleDenoising:
    """An objective of the training loop.

    Parameters
    ----------
    problem : Problem
    least, most : float
        sigma_0 < sigma_1, units of ``problem.length``.
    seed : int
        Root seed.
    augment : callable
        Applied to every training batch before the noise.

    Raises
    ------
    SettingsError
        If not 0 < least < most.
    """

    unit = "denoising error (1: no score)"

    def __init__(
        self, problem: Problem, least: float, most: float, seed: int, augment: Augmentation = unchanged
    ) -> None:
        if not 0.0 < least < most:
            raise SettingsError(f"noise: expected 0 < least < most, got {least} and {most}")
        self.problem, self.seed, self.augment = problem, seed, augment
        self.least, self.most = least * problem.length, most * problem.length
        self.n_frames = len(problem.train)
        self.step = 0

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Loss of the training examples ``index``."""
        generator = torch_stream(self.seed, f"multiscale.step.{self.step}")
        self.step += 1
        return self.of(self.augment(self.problem.train[torch.from_numpy(index)], generator), generator)

    def of(self, data: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of ``data`` [B, d], differentiable in the parameters."""
        return denoising.loss(self.problem, data, self.least, generator, self.most)

    def readable(self, loss: float) -> float:
        """The loss itself."""
        return loss

    def validate(self) -> float:
        """Loss on held-out examples, with the same noise every time."""
        data = self.problem.valid[:_MOST_HELD_OUT]
        generator = torch_stream(self.seed, "multiscale.valid")
        return sum(self.of(part, generator).item() * len(part) for part in data.split(100)) / len(data)

    def memory(self) -> dict[str, Tensor]:
        """The number of steps done."""
        return {"step": torch.tensor(self.step)}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Take over what :meth:`memory` gave."""
        self.step = int(memory["step"])
