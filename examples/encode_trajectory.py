"""Encode a trajectory with a shipped encoder: a map of its conformations, its most surprising frame, and a fair check.

python examples/encode_trajectory.py --ns 2 -o runs/encoded
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
from sklearn.decomposition import PCA

import mlsim
from mlsim.analysis.observables import evaluate
from mlsim.analysis.surfaces.basins import BASINS, assign
from mlsim.repr import images, load_encoder, probe
from mlsim.repr.beit.information_maps import surprise_map
from mlsim.workflow.simulation.run import run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ENCODER = "beit-extension-map"


def main() -> None:
    """One run, its features, one figure and one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ns", type=float, default=2.0, help="length of the run, ns")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/encoded"))
    given = parser.parse_args()

    settings = mlsim.RunSettings(system="alanine-dipeptide", solvent="issnet", ns=given.ns, seed=3, report_ps=given.ns)
    run(settings, given.output / "run")
    made = mlsim.Run.open(given.output / "run")
    positions = made.replicas[0].positions()

    # What `mlsim encode RUN --encoder beit-extension-map -o features.npz` does, and more layers to choose from.
    encoder = load_encoder(ENCODER)
    maps = images.prepare(positions, made.topology, encoder.inputs)
    features = {
        "encoder": encoder.encode(maps, layer="block.2", pool="grid"),
        "pair distances": images.pair_distances(positions[:, images.select(made.topology, "heavy")]),
    }

    # Learn the basins of phi and psi on the first half, score on the second: neighbouring frames must not leak.
    angles = evaluate(positions, made.topology, ["phi", "psi"])
    basin, half = assign(angles[:, 0], angles[:, 1]), len(positions) // 2
    print(f"{'features':<16s} {'width':>6s} {'accuracy':>9s}")
    for name, x in features.items():
        accuracy = probe.linear_probe(x[:half], basin[:half], x[half:], basin[half:])
        print(f"{name:<16s} {x.shape[1]:6d} {accuracy:9.3f}")

    surprise = surprise_map(encoder, maps[:: max(1, len(maps) // 200)], passes=8)
    strangest = int(surprise.mean((1, 2)).argmax())
    print(f"most surprising of {len(surprise)} frames: {surprise[strangest].mean():.2f} nats per patch")

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    flat = PCA(2, random_state=0).fit_transform(features["encoder"])
    for number, name in enumerate(BASINS):
        left.scatter(*flat[basin == number].T, s=4, label=name)
    left.set(title="features, two principal components", xlabel="first", ylabel="second")
    left.legend()
    middle.imshow(maps[:: max(1, len(maps) // 200)][strangest], origin="lower")
    middle.set(title="extension map of the strangest frame")
    shown = right.imshow(surprise[strangest], origin="lower", cmap="magma")
    right.set(title="its surprise, nats per patch")
    figure.colorbar(shown, ax=right)
    figure.savefig(given.output / "encoded.png", dpi=120)
    print(f"figure in {given.output / 'encoded.png'}")


if __name__ == "__main__":
    main()
