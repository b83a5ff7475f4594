"""Train two small ISSNets on different amounts of data, stitch one under the other, and see which blocks can be shared.

python examples/stitch_force_fields.py --epochs 8 -o runs/stitching
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from mlsim.chem.catalog import find_system
from mlsim.dataset.frames import ForceFrames
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.force_matching import fit
from mlsim.models.contract import create
from mlsim.repr.stitching import ForceFieldCut, ForceMatch, StitchSettings, stitch_report

matplotlib.use("Agg")


def main() -> None:
    """Two fits, one table, one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8, help="of the network with all frames")
    parser.add_argument("--frames", type=int, default=1200, help="frames of the larger training set")
    parser.add_argument("--steps", type=int, default=40, help="training steps of every stitch")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/stitching"))
    given = parser.parse_args()

    shipped = ForceFrames.load(find_system("alanine-dipeptide").directory / "training" / "frames.h5")
    train = shipped.take(np.linspace(0, 0.75 * len(shipped), given.frames).astype(int))
    valid = shipped.take(np.linspace(0.8 * len(shipped), 0.9 * len(shipped), 100).astype(int))
    test = shipped.take(np.linspace(0.92 * len(shipped), len(shipped) - 1, 200).astype(int))

    cuts = {}
    for seed, (name, count) in enumerate({"many frames": given.frames, "few frames": given.frames // 10}.items()):
        model = create("issnet", {"features": 32, "blocks": 3, "n_radial": 16, "cutoff_nm": 1.0}, seed)
        epochs = given.epochs * given.frames // count
        settings = TrainSettings(epochs=epochs, batch_size=32, learning_rate=3e-3, patience=epochs, seed=1)
        part = train.take(np.linspace(0, len(train) - 1, count).astype(int))
        fit(model, part, valid, settings, given.output / name.replace(" ", "-"))
        cuts[name] = ForceFieldCut(model, shipped)

    task = ForceMatch(train, test)
    settings = StitchSettings(steps=given.steps, batch_size=32, match_rows=200, cka_rows=100, learning_rate=3e-3)
    table = stitch_report(cuts["few frames"], cuts["many frames"], task, settings=settings)
    print("force error (kJ/mol/nm) of the network of few frames, and what it costs to exchange its lower blocks:")
    print(table.drop(columns=["bottom_layer", "other_seed", "unit"]).round(2).to_string(index=False))

    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for column, label in (
        ("penalty", "bottom of many frames"),
        ("self", "its own bottom"),
        ("random", "random bottom"),
    ):
        ax.plot(table["layer"], table[column], marker="o", label=label)
    ax.axhline(0, color="grey", lw=0.8)
    ax.set(ylabel="stitching penalty, kJ/mol/nm", title="under the top of few frames")
    ax.legend(frameon=False, title="bottom")
    figure.savefig(given.output / "stitching.png", dpi=150)
    print(f"figure in {given.output / 'stitching.png'}")


if __name__ == "__main__":
    main()
