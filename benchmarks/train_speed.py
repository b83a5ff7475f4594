"""How many frames per second does force matching do, against the same network written with PyTorch Geometric?

One optimiser step each in turn, on the same batch of the shipped frames of alanine dipeptide, one thread: mlsim's
objective with tabulated and with exact forces, and PyTorch Geometric's SchNet (same features, interactions, Gaussians
and cutoff) with forces from autograd and a second backward pass for the loss.

    python -m benchmarks.train_speed
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import engines
from benchmarks.pyg_schnet import PygEnergy
from benchmarks.result import Claim, write_result
from benchmarks.timing import Spread, interleaved, ratio
from mlsim.chem.catalog import forcefield_directory
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.bind import load_forcefield
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.force_matching import ForceMatching
from mlsim.models.contract import create
from mlsim.models.issnet.solvation import ISSNetSettings

FORCEFIELD = "issnet-ala2"
OURS, EXACT, PYG = "mlsim, tabulated forces", "mlsim, exact forces", "PyTorch Geometric"


def objective_step(frames: ForceFrames, config: ISSNetSettings, how: str, batch: int) -> Callable[[int], None]:
    """Optimiser steps of mlsim's force matching."""
    model = create("issnet", config.model_dump(), 1)
    objective = ForceMatching(model, frames, frames.take(np.arange(8)), TrainSettings.parse({"engine": how}), None)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    index = np.arange(batch)

    def work(units: int) -> None:
        for _ in range(units):
            optimizer.zero_grad()
            objective.loss(index).backward()
            optimizer.step()

    return work


def pyg_step(frames: ForceFrames, config: ISSNetSettings, batch: int) -> Callable[[int], None]:
    """Optimiser steps of the same loss with PyTorch Geometric's SchNet."""
    energy = PygEnergy(config, frames.positions.shape[1])
    optimizer = torch.optim.Adam(energy.net.parameters(), 1e-3)
    positions = torch.tensor(frames.positions[:batch], dtype=torch.float32)
    labels = torch.tensor(frames.forces[:batch], dtype=torch.float32)
    scale = float(labels.square().mean())

    def work(units: int) -> None:
        for _ in range(units):
            optimizer.zero_grad()
            x = positions.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(energy.energies(x).sum(), x, create_graph=True)
            ((gradient + labels).square().mean() / scale).backward()
            optimizer.step()

    return work


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, default=Path("systems/alanine-dipeptide/training/frames.h5"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time per contender and round")
    given = parser.parse_args()
    engines.one_thread()
    frames = ForceFrames.load(given.frames).take(np.arange(4 * given.batch))
    shipped = load_forcefield(forcefield_directory(FORCEFIELD))
    config = ISSNetSettings.parse({**shipped.artifact.config, "baseline": "none"}, FORCEFIELD)
    contenders = {
        OURS: objective_step(frames, config, "tabulated", given.batch),
        EXACT: objective_step(frames, config, "exact", given.batch),
        PYG: pyg_step(frames, config, given.batch),
    }
    steps, _ = interleaved(contenders, given.rounds, given.seconds)
    rows = []
    for name, rates in steps.items():
        spread = Spread.of([r * given.batch for r in rates]).record()
        rows.append({"contender": name, "frames_per_s": spread, "batch": given.batch})
        print(f"{name:26s} {spread['median']:8.1f} frames/s ({spread['least']:.4g} to {spread['most']:.4g})")
    gain = ratio(steps, OURS, PYG)
    text = f"training frames/s over PyTorch Geometric's SchNet (repeats {gain.least:.3g} to {gain.most:.3g})"
    claim = Claim("3.3", text, gain.median, ">= 3", gain.median >= 3)
    write_result("train_speed", question=__doc__.splitlines()[0], rows=rows, claims=[claim])


if __name__ == "__main__":
    main()
