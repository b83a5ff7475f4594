"""Thermal snapshots of isomers: Hamiltonian Monte Carlo on the MMFF surface, from every relaxed conformer.

    p(x) ~ exp(-E_MMFF(x) / kT)

sampled by ``mlsim.samplers.methods.hmc`` in the frame of zero centre of mass, so that the data of the molecule
benchmark come from the package's own sampler on a surface everybody has. Chains start at conformers and do not cross
high barriers: weights of conformers are those of the embedding, the spread within each is thermal.

Symbols: E in kJ/mol, x in Angstrom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.isomers.enumeration import Isomer, Surface
from mlsim.errors import InputError
from mlsim.samplers import hmc, sample, translations
from mlsim.samplers.algorithm import LogDensity
from mlsim.shapes import Floats
from mlsim.units import kT


class _Energies(torch.autograd.Function):
    """Reduced MMFF energies [N] of positions [N, 3 n], with their gradient."""

    @staticmethod
    def forward(context: Any, positions: torch.Tensor, evaluate: Callable[[Floats], tuple[float, Floats]]) -> Any:
        found = [evaluate(x) for x in positions.detach().numpy().reshape(len(positions), -1, 3)]
        gradient = torch.tensor(np.array([slope.ravel() for _, slope in found]), dtype=positions.dtype)
        context.save_for_backward(gradient)
        return torch.tensor([energy for energy, _ in found], dtype=positions.dtype)

    @staticmethod
    def backward(context: Any, *pulls: torch.Tensor) -> Any:
        (gradient,) = context.saved_tensors
        return pulls[0][:, None] * gradient, None


def log_density(isomer: Isomer, temperature_K: float) -> LogDensity:
    """-E / kT of positions [N, 3 n] (Angstrom)."""
    surface, unit = Surface.of(isomer), kT(temperature_K)

    def evaluate(positions: torch.Tensor) -> torch.Tensor:
        flat = positions.reshape(-1, positions.shape[-1])
        energies: torch.Tensor = _Energies.apply(flat, surface.evaluate)  # type: ignore[no-untyped-call]
        return (-energies / unit).reshape(positions.shape[:-1])

    return evaluate


def snapshots(
    isomer: Isomer,
    chains: int,
    generator: torch.Generator,
    temperature_K: float = 300.0,
    burn_in: int = 20,
    kept: int = 5,
    every: int = 8,
) -> Floats:
    """Snapshots [chains * kept, n, 3] (Angstrom, centred).

    Parameters
    ----------
    isomer : Isomer
        Chains start at its conformers in turn.
    chains : int
    generator : torch.Generator
    temperature_K : float
    burn_in, kept, every : int
        Trajectories before the first snapshot, snapshots per chain, trajectories between them (8 leaps each).
    """
    if chains < 1 or kept < 1 or every < 1:
        raise InputError(f"snapshots: expected positive numbers, got {chains} chains, {kept} kept, every {every}")
    count = len(isomer.elements)
    start = torch.tensor(isomer.conformers[np.arange(chains) % len(isomer.conformers)]).reshape(chains, -1)
    project = translations(3, count).project
    sampler = hmc(log_density(isomer, temperature_K), 0.03, leaps=8, project=project)
    warm = sample(sampler, start, 1 + 8 * burn_in, generator).positions
    found = sample(sampler, warm, 1 + 8 * every * kept, generator, record_every=every)
    return found.trajectory.reshape(-1, count, 3).numpy()
