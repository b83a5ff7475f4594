"""One trial: a sampler on a target from the target's own start, scored against its reference.

What is measured depends on the target: energies, pair distances and (DW-4) long edges where -log p is an energy;
radii and the mean log density otherwise. Mean log density is reported beside its true value and is no score: a
collapsed set beats the truth. ``floor`` gives every metric for independent reference draws of the same number, which
no sampler can be expected to beat (a deterministic quadrature may).

Symbols: N ``particles``; metrics as in ``scores``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlsim.errors import InputError
from mlsim.samplers.algorithm import Samples, evaluate, sample
from mlsim.samplers.kernels.bandwidth import median
from mlsim.samplers.kernels.discrepancy import discrepancy, thin
from mlsim.samplers.kernels.stein_kernel import SteinKernel
from mlsim.samplers.sampler_catalog import SamplerSettings, create
from mlsim.samplers.targets.clusters import long_edges, pair_distances
from mlsim.samplers.targets.scores import total_variation, wasserstein_2
from mlsim.samplers.targets.stored_reference import load
from mlsim.samplers.targets.target import Target
from mlsim.seeds import torch_stream

_TRUTH = 20000
_FLOOR_REPEATS = 20
_BETWEEN_CIRCLES = 6.0


@dataclass(frozen=True)
class Trial:
    """Outcome of ``run``.

    Attributes
    ----------
    samples : Samples
        Particles and spent budget.
    metrics : dict
        Name -> value, see ``measure``.
    wall_s, cpu_s : float
        Time of the sampling alone, s.
    """

    samples: Samples
    metrics: dict[str, float]
    wall_s: float
    cpu_s: float


def start(target: Target, particles: int, seed: int) -> torch.Tensor:
    """The initial particles [N, d] of a seed: the same for every sampler."""
    if particles < 1:
        raise InputError(f"particles: expected at least 1, got {particles}")
    return target.start(particles, torch_stream(seed, f"start/{target.name}"), torch.float64)


def run(
    target: Target,
    settings: SamplerSettings,
    particles: int,
    seed: int,
    record_every: int = 0,
    stop: Callable[[Any], str | None] | None = None,
) -> Trial:
    """Sample ``target`` with the sampler and budget of ``settings``.

    Parameters
    ----------
    target : Target
    settings : SamplerSettings
        ``length`` should be the target's.
    particles : int
        N.
    seed : int
        Root seed; start and noise are separate streams of it.
    record_every : int
        Steps between recorded particles (0: none).
    stop : callable, optional
        Stopping rule of ``sample``.
    """
    first = start(target, particles, seed)
    sampler = create(target.log_density, target.symmetry, settings)
    wall, cpu = time.perf_counter(), time.process_time()
    samples = sample(sampler, first, settings.gradients, torch_stream(seed, "noise"), record_every, stop)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Trial(samples, measure(target, samples.positions), wall, cpu)


def thinned(
    target: Target, positions: torch.Tensor, kernel: SteinKernel, count: int
) -> tuple[torch.Tensor, float, float, float]:
    """Stein thinning of particles [N, d], each taken at most once.

    Returns
    -------
    tuple
        Indices [count], and the kernel Stein discrepancy (median bandwidth) of all particles, of those kept, and of the
        first ``count`` as a measure of what thinning gains.
    """
    _, scores = evaluate(target.log_density, positions)
    scores = target.symmetry.project(scores)
    width = median(kernel.squared_distances(positions))
    kept = thin(kernel.stein(positions, scores, width), count, torch.ones(len(positions), dtype=torch.int64))
    before, after, first = (
        discrepancy(kernel, positions[rows], scores[rows], width)
        for rows in (torch.arange(len(positions)), kept, torch.arange(count))
    )
    return kept, before, after, first


def edge_shares(positions: torch.Tensor) -> torch.Tensor:
    """Shares [7] of DW-4 configurations with 0 .. 6 long edges."""
    return torch.bincount(long_edges(positions), minlength=7)[:7].to(torch.float64) / len(positions)


def measure(target: Target, positions: torch.Tensor) -> dict[str, float]:
    """Metrics of particles [N, d] against the reference of ``target``."""
    x = positions.to(torch.float64)
    return _physical(target, x) if target.has_energy else _radial(target, x)


def _physical(target: Target, x: torch.Tensor) -> dict[str, float]:
    reference = load(target.name)
    energies = (-target.log_density(x)).numpy()
    distances = pair_distances(x, target.symmetry.points).numpy().ravel()
    found = {
        "energy": float(energies.mean()),
        "energy_sd": float(energies.std()),
        "energy_w2": wasserstein_2(energies, reference.energies),
        "distance_w2": wasserstein_2(distances, reference.distances),
        "tv50": total_variation(reference.distances, distances, 50),
    }
    if "long_edges" in reference.record:
        truth = torch.tensor([entry["mean"] for entry in reference.record["long_edges"]], dtype=torch.float64)
        found["long_edges_l1"] = float((edge_shares(x) - truth).abs().sum())
    return found


def _radial(target: Target, x: torch.Tensor) -> dict[str, float]:
    truth = target.draw(_TRUTH, torch_stream(0, f"truth/{target.name}"))
    radius = x.norm(dim=1)
    found = {
        "mean_log_density": float(target.log_density(x).mean()),
        "mean_log_density_truth": float(target.log_density(truth).mean()),
        "radius_w2": wasserstein_2(radius.numpy(), truth.norm(dim=1).numpy()),
    }
    if target.name == "circles":
        rings = [radius[radius < _BETWEEN_CIRCLES], radius[radius >= _BETWEEN_CIRCLES]]
        spread = [float(ring.std()) for ring in rings if len(ring) > 2]
        found["inner_share"] = len(rings[0]) / len(x)
        found["ring_sd"] = float(np.mean(spread)) if spread else float("nan")
    return found


def floor(target: Target, particles: int) -> dict[str, float]:
    """Mean metrics of 20 sets of N independent reference draws."""
    generator = torch_stream(0, f"floor/{target.name}/{particles}")
    repeats = []
    for _ in range(_FLOOR_REPEATS):
        known = load(target.name) if target.has_energy else target
        repeats.append(measure(target, known.draw(particles, generator)))
    return {key: float(np.nanmean([repeat[key] for repeat in repeats])) for key in repeats[0]}
