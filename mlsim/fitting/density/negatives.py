"""Negatives: particles of the present model, kept in a replay buffer between training steps.

    take a batch from the buffer, start a share of it afresh
    move it ``steps`` times with the chosen sampler at exp(-u)
    put it back

With a share of zero this is persistent contrastive divergence; with a share of one, contrastive divergence from the
start distribution. Particles that left the finite numbers are started afresh instead of stopping the training.

Why ``kinetic`` for molecules: what keeps the step short are bonds, what has to be explored are torsions. Momentum,
drawn anew at every draw and kept for about its ``steps``, carries a chain along the soft directions where a Langevin
chain diffuses.

Symbols: eps = (step_length length)^2 ``size``; for ``kinetic`` dt = step_length length (unit masses).

References: Tieleman 2008 (persistent CD); Du & Mordatch 2019, arXiv:1903.08689 (replay buffer with restarts).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlsim.errors import SettingsError
from mlsim.fitting.density.augmented import AugmentedKernel
from mlsim.fitting.density.problem import Problem
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.samplers import (
    Normalised,
    Sampler,
    esvgd,
    evaluate,
    kinetic_esvgd,
    mala,
    metropolised_esvgd,
    sample,
    ula,
)
from mlsim.samplers.sampler_catalog import SamplerSettings, stein_kernel


class Negatives:
    """The replay buffer and the sampler that works on it.

    Parameters
    ----------
    problem : Problem
    settings : ContrastiveSettings
    generator : torch.Generator
        Source of the first particles.

    Raises
    ------
    SettingsError
        If data are to join the particle set of a sampler that has none.
    """

    def __init__(self, problem: Problem, settings: ContrastiveSettings, generator: torch.Generator) -> None:
        if settings.particle_set == "model+data" and settings.negatives != "esvgd":
            raise SettingsError(f"particle_set 'model+data': expected negatives 'esvgd', got '{settings.negatives}'")
        self.problem, self.settings = problem, settings
        self.particles = problem.start(settings.buffer, generator)
        self.kernel = stein_kernel(problem.symmetry, SamplerSettings(method="esvgd"))

    def draw(self, data: Tensor, generator: torch.Generator) -> Tensor:
        """As many negatives [B, d] as there are ``data`` [B, d]; the buffer keeps them."""
        chosen = torch.randperm(len(self.particles), generator=generator)[: len(data)]
        starts = self.particles[chosen]
        fresh = torch.rand(len(starts), generator=generator) < self.settings.reset
        if bool(fresh.any()):
            starts[fresh] = self.problem.start(int(fresh.sum()), generator)
        moved = sample(self.sampler(data), starts, self.settings.steps + 1, generator).positions
        lost = ~torch.isfinite(self.problem.energy(moved).detach())
        if bool(lost.any()):
            moved[lost] = self.problem.start(int(lost.sum()), generator)
        self.particles = self.particles.clone()
        self.particles[chosen] = moved
        return moved

    def sampler(self, data: Tensor) -> Sampler:
        """The sampler of the present model."""
        settings, project = self.settings, self.problem.symmetry.project
        reach = settings.step_length * self.problem.length
        if settings.negatives == "langevin":
            return ula(self.log_density, reach**2, project=project)
        if settings.negatives == "kinetic":
            return kinetic_esvgd(self.log_density, self.kernel, reach, 1.0 / (settings.steps * reach), weight=0.0)
        if settings.negatives == "mala":
            return mala(self.log_density, reach**2, project=project)
        if settings.negatives == "metropolised-esvgd":
            return metropolised_esvgd(self.log_density, self.kernel, size=reach**2)
        kernel = self.kernel
        if settings.particle_set == "model+data":
            _, scores = evaluate(self.log_density, data)
            return esvgd(self.log_density, AugmentedKernel(kernel, data, scores), rule=self._rule(reach))
        return esvgd(self.log_density, kernel, rule=self._rule(reach))

    def log_density(self, vectors: Tensor) -> Tensor:
        """-u [B] of vectors [B, d]."""
        return -self.problem.energy(vectors)

    def _rule(self, reach: float) -> Normalised:
        return Normalised(reach, self.settings.steps, last=0.1)
