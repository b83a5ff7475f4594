"""Predict where the atoms of alanine dipeptide go next, and dial how strictly the structure must stay sound.

A network that predicts the mean conformation 0.6 ps ahead breaks bonds: averaged hydrogens are no hydrogens. Here a
rule (bonds near their lengths, no clashes) is learnt beside the task, and its strength is chosen afterwards.

python examples/rule_strength.py -o runs/rule_strength
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import mlsim
from mlsim.repr.deepctrl.control import select_alpha, sweep
from mlsim.repr.deepctrl.dial_network import NetworkSettings, RuleControlled
from mlsim.repr.deepctrl.molecule_rules import sound_geometry
from mlsim.repr.deepctrl.propagation import lagged_pairs
from mlsim.repr.deepctrl.training import TrainingSettings, fit
from mlsim.seeds import torch_stream
from mlsim.workflow.simulation.run import run

SYSTEM = "alanine-dipeptide"
LAG = 3  # frames of 0.2 ps


def main() -> None:
    """Two runs, one training, one sweep, one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ns", type=float, default=0.3, help="length of the training run, ns")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/rule_strength"))
    given = parser.parse_args()

    runs = []
    for name, length, seed in (("train", given.ns, 1), ("test", given.ns / 2, 2)):
        settings = mlsim.RunSettings(system=SYSTEM, solvent="issnet", ns=length, seed=seed, report_ps=0.2)
        run(settings, given.output / name)
        runs.append(mlsim.Run.open(given.output / name))

    atoms = list(runs[0].topology.atoms)
    heavy = np.array([a.index for a in atoms if a.element.symbol != "H"])
    bonds = np.array([[a.index, b.index] for a, b in runs[0].topology.bonds])
    frames = [made.replicas[0].positions() for made in runs]
    rule = sound_geometry(bonds, [a.element.symbol for a in atoms], frames[0])
    reference = mlsim.load_system(SYSTEM).positions
    (x, y), test = (lagged_pairs(f, reference, heavy, LAG) for f in frames)
    cut = 4 * len(x) // 5

    size = x.shape[1]
    shape = NetworkSettings(
        inputs=size, outputs=size, shared=(128, 64), encoder=(128, 64), head=(128,), output="residual"
    )
    network = RuleControlled(shape, torch_stream(1, "weights"))
    training = TrainingSettings(epochs=given.epochs, task_loss="mse", rho=0.1)
    fit(network, rule, (x[:cut], y[:cut]), (x[cut + LAG :], y[cut + LAG :]), training, seed=1)

    found = sweep(network, rule, *test, list(np.linspace(-0.2, 1.4, 17)))
    print(f"{'alpha':>6s} {'sound':>7s} {'error (nm)':>11s}")
    for s in found:
        print(f"{s.alpha:6.1f} {s.ratio:7.1%} {s.mae:11.4f}")
    best = select_alpha(found, min(0.9, max(s.ratio for s in found)))
    print(f"least error with that many sound structures: alpha = {best.alpha:.1f}")

    figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axis.plot([s.alpha for s in found], [s.ratio for s in found], "o-", color="C0")
    axis.set(xlabel="rule strength alpha", ylabel="sound structures", ylim=(-0.02, 1.02))
    axis.yaxis.label.set_color("C0")
    right = axis.twinx()
    right.plot([s.alpha for s in found], [10 * s.mae for s in found], "s-", color="C1")
    right.set_ylabel("mean error per coordinate (Å)", color="C1")
    axis.axvspan(0, 1, color="0.93", zorder=0)
    figure.savefig(given.output / "rule_strength.png", dpi=150)
    network.save(given.output / "network")
    print(f"figure in {given.output / 'rule_strength.png'}")


if __name__ == "__main__":
    main()
