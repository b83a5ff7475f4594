"""Learn a collective variable of alanine dipeptide from distances alone, and compare it with TICA.

python examples/collective_variables.py --ns 2 -o runs/coordinates
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch  # noqa: F401 - before openmm

import mlsim
from mlsim.analysis import observables
from mlsim.repr import InputSettings
from mlsim.repr.hsic import TimeLaggedHSIC, TimeLaggedSettings
from mlsim.repr.hsic.slow_axes import slow_axes
from mlsim.repr.images import prepare
from mlsim.workflow.simulation.run import run

matplotlib.use("Agg")
LAG = 10


def main() -> None:
    """One hot run, two ways to find its slowest coordinate, one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ns", type=float, default=2.0, help="length of the run, ns")
    parser.add_argument("--temperature", type=float, default=600.0, help="K; at 300 K phi > 0 is hardly ever visited")
    parser.add_argument("--steps", type=int, default=400, help="training steps")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/coordinates"))
    given = parser.parse_args()

    run(mlsim.RunSettings(ns=given.ns, temperature_K=given.temperature, seed=1, report_ps=0.5), given.output / "run")
    made = mlsim.Run.open(given.output / "run")
    positions = made.replicas[0].positions()
    inputs = InputSettings(kind="distances", atoms="heavy")
    features = prepare(positions, made.topology, inputs)
    half = len(features) // 2

    settings = TimeLaggedSettings()
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"steps": given.steps})})
    learner = TimeLaggedHSIC(LAG, settings, inputs).fit(features[:half])
    learner.save(given.output / "encoder")  # mlsim encode trajectory.xtc --encoder runs/coordinates/encoder
    tica = slow_axes([features[:half]], LAG)

    phi, psi = observables.evaluate(positions, made.topology, ["phi:2", "psi:2"]).T
    coordinates = {
        "TimeLaggedHSIC": learner.transform(features)[:, 0],
        "TICA": tica.project(features.astype(np.float64))[:, 0],
    }
    print(f"{'held-out half':16s} {'timescale, ps':>14s} {'r with phi > 0':>15s}")
    for name, values in coordinates.items():
        x = values[half:] - values[half:].mean()
        rho = float((x[:-LAG] * x[LAG:]).mean() / (x * x).mean())
        timescale = -0.5 * LAG / np.log(min(max(rho, 1e-9), 1 - 1e-9))
        left = (phi[half:] > 0).astype(float)
        relation = abs(np.corrcoef(x, left)[0, 1]) if left.std() > 0 else float("nan")
        print(f"{name:16s} {timescale:14.1f} {relation:15.2f}")

    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for ax, (name, values) in zip(axes, coordinates.items(), strict=True):
        points = ax.scatter(np.degrees(phi), np.degrees(psi), c=values, s=3, cmap="coolwarm")
        figure.colorbar(points, ax=ax)
        ax.set(xlabel="phi, degrees", ylabel="psi, degrees", title=f"{name}, slowest coordinate")
    figure.savefig(given.output / "coordinates.png", dpi=150)
    print(f"figure in {given.output / 'coordinates.png'}")


if __name__ == "__main__":
    main()
