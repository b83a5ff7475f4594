"""Encode Ramachandran densities of windows of trajectories: which solvent made a window, and which windows are unusual?

python examples/encode_densities.py --ns 0.4 -o runs/densities
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.decomposition import PCA

import mlsim
from mlsim.analysis.observables import evaluate
from mlsim.repr import load_encoder, probe
from mlsim.repr.beit.information_maps import surprise_map
from mlsim.repr.densities import ramachandran_windows
from mlsim.workflow.simulation.run import run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SOLVENTS = ("vacuum", "obc2", "issnet")
WINDOW = 50  # frames, one every half picosecond


def angles(solvent: str, seed: int, ns: float, place: Path) -> np.ndarray:
    """phi and psi [F, 2] of a run of alanine dipeptide."""
    settings = mlsim.RunSettings(system="alanine-dipeptide", solvent=solvent, ns=ns, seed=seed, report_ps=0.5)
    run(settings, place)
    made = mlsim.Run.open(place)
    return evaluate(made.replicas[0].positions(), made.topology, ["phi", "psi"])


def main() -> None:
    """Two runs per solvent, one to learn from, one to be judged on; one table and one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ns", type=float, default=0.4, help="length of each of the six runs, ns")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/densities"))
    given = parser.parse_args()

    pictures, averages, solvent, held = [], [], [], []
    for number, name in enumerate(SOLVENTS):
        for seed in (1, 2):
            found = angles(name, seed, given.ns, given.output / f"{name}-{seed}")
            images, starts = ramachandran_windows(found[:, 0], found[:, 1], window=WINDOW, step=WINDOW // 2)
            pictures.append(images)
            both = np.concatenate([np.cos(found), np.sin(found)], axis=1)
            averages.append(np.stack([both[s : s + WINDOW].mean(0) for s in starts]))
            solvent += [number] * len(starts)
            held += [seed == 2] * len(starts)
    maps, label, test = np.concatenate(pictures), np.array(solvent), np.array(held)

    encoder = load_encoder("beit-ramachandran")
    features = {
        "encoder": encoder.encode(maps, pool="grid"),
        "pixels": maps.reshape(len(maps), -1),
        "mean angles": np.concatenate(averages),
    }
    print(f"solvent of a window of {WINDOW} frames, linear probe, other run: {len(SOLVENTS)} solvents")
    print(f"{'features':<14s} {'width':>6s} {'accuracy':>9s}")
    for name, x in features.items():
        print(f"{name:<14s} {x.shape[1]:6d} {probe.linear_probe(x[~test], label[~test], x[test], label[test]):9.3f}")

    surprise = surprise_map(encoder, maps, passes=4)
    mean = surprise.mean((1, 2))
    by_solvent = ", ".join(f"{name} {mean[label == k].mean():.2f}" for k, name in enumerate(SOLVENTS))
    print(f"\nsurprise per patch, nats: {by_solvent}")
    strangest = int(mean.argmax())

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    flat = PCA(2, random_state=0).fit_transform(features["encoder"])
    for number, name in enumerate(SOLVENTS):
        left.scatter(*flat[label == number].T, s=8, label=name)
    left.set(title="windows, two principal components", xlabel="first", ylabel="second")
    left.legend()
    middle.imshow(maps[strangest].T, origin="lower", extent=(-180, 180, -180, 180))
    middle.set(title=f"strangest window ({SOLVENTS[label[strangest]]})", xlabel="phi", ylabel="psi")
    shown = right.imshow(surprise[strangest].T, origin="lower", extent=(-180, 180, -180, 180), cmap="magma")
    right.set(title="its surprise, nats per patch", xlabel="phi", ylabel="psi")
    figure.colorbar(shown, ax=right)
    figure.savefig(given.output / "densities.png", dpi=120)
    print(f"figure in {given.output / 'densities.png'}")


if __name__ == "__main__":
    main()
