"""Contrastive divergence as an objective of the training loop.

    L = w_c [ <u(x)>_data - <u(y)>_negatives ] / f  +  w_d L_denoising  +  w_e < u(x)^2 + min(u(y)^2, (10 f)^2) > / f

The gradient of the first term is that of -log p(x) if the negatives y are samples of the model. The squares keep
energies of order one and fix the additive constant, which nothing else does; those of the negatives are cut because
a fresh particle inside a wall of the prior has an energy that no parameter can lower. Everything is per degree of
freedom, so that the weights mean the same for four points and for an image.

All random numbers of training step t come from a stream of (seed, t), and the negatives go into the checkpoint: a
resumed training equals an uninterrupted one bit for bit.

Symbols: u ``energy``, w ``settings``, f degrees of freedom.

References: Hinton 2002; Du & Mordatch 2019, arXiv:1903.08689.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.errors import InputError
from mlsim.fitting.density import denoising
from mlsim.fitting.density.negatives import Negatives
from mlsim.fitting.density.problem import Problem
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.seeds import torch_stream

#: Noise draws per held-out example.
_REPEATS = 4
#: Energies of negatives are cut at this much per degree of freedom in the squares.
_CUT = 10.0
#: Held-out examples looked at.
_MOST_HELD_OUT = 1000


class ContrastiveDivergence:
    """The objective of :func:`mlsim.fitting.density.contrastive_fit.fit`.

    Parameters
    ----------
    problem : Problem
    settings : ContrastiveSettings
    seed : int
        Root seed.
    """

    unit = "denoising error (1: no score)"

    def __init__(self, problem: Problem, settings: ContrastiveSettings, seed: int) -> None:
        self.problem, self.settings, self.seed = problem, settings, seed
        self.n_frames = len(problem.train)
        self.negatives = Negatives(problem, settings, torch_stream(seed, "contrastive.buffer"))
        self.step = 0

    def begin_at(self, particles: Tensor) -> None:
        """Take ``particles`` [buffer, d] for the first negatives.

        Raises
        ------
        InputError
            If they are not as many as the buffer holds, or of another dimension.
        """
        expected = tuple(self.negatives.particles.shape)
        if tuple(particles.shape) != expected:
            raise InputError(f"first negatives: expected shape {list(expected)}, got {list(particles.shape)}")
        self.negatives.particles = particles.to(self.negatives.particles)

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Loss of the training examples ``index``."""
        return self.of(self.problem.train[torch.from_numpy(index)])

    def of(self, data: Tensor) -> Tensor:
        """Loss of ``data`` [B, d]; one training step."""
        generator = torch_stream(self.seed, f"contrastive.step.{self.step}")
        self.step += 1
        settings = self.settings
        total = data.new_zeros(())
        if settings.denoising > 0.0:
            noise = settings.noise * self.problem.length
            total = total + settings.denoising * denoising.loss(self.problem, data, noise, generator)
        if settings.divergence > 0.0 and self.step > settings.warm_steps:
            total = total + self.contrast(data, generator) / self.problem.symmetry.freedom
        return total

    def contrast(self, data: Tensor, generator: torch.Generator) -> Tensor:
        """Contrastive term and squares for ``data`` [B, d], not per degree of freedom."""
        settings, project = self.settings, self.problem.symmetry.project
        noise = project(torch.randn(data.shape, generator=generator, dtype=data.dtype))
        real = data + settings.data_noise * self.problem.length * noise
        fake = self.negatives.draw(real, generator)
        up, down = self.problem.energy(real), self.problem.energy(fake.detach())
        highest = _CUT * self.problem.symmetry.freedom
        squares = (up.square() + down.clamp(-highest, highest).square()).mean()
        return settings.divergence * (up.mean() - down.mean()) + settings.energy_square * squares

    def readable(self, loss: float) -> float:
        """The loss itself."""
        return loss

    def validate(self) -> float:
        """Denoising error of held-out examples, with the same noise every time."""
        data = self.problem.valid[:_MOST_HELD_OUT].repeat(_REPEATS, 1)
        generator = torch_stream(self.seed, "contrastive.valid")
        total = 0.0
        for part in data.split(250):
            found = denoising.loss(self.problem, part, self.settings.noise * self.problem.length, generator)
            total += found.item() * len(part)
        return total / len(data)

    def memory(self) -> dict[str, Tensor]:
        """Particles of the buffer and the number of steps done."""
        return {"particles": self.negatives.particles.clone(), "step": torch.tensor(self.step)}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Take over what :meth:`memory` gave."""
        self.negatives.particles = memory["particles"].clone()
        self.step = int(memory["step"])
