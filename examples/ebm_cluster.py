"""Learn the energy of the DW-4 cluster from samples alone, make it a force field, run it, and compare distances.

python examples/ebm_cluster.py -o runs/ebm
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import mlsim
from mlsim.chem.cluster import LENGTH_NM
from mlsim.deploy.bind import ForceField
from mlsim.deploy.card import Description
from mlsim.deploy.export import export
from mlsim.deploy.verify import verify
from mlsim.fitting.density.contrastive_fit import fit
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.fitting.settings import TrainSettings
from mlsim.samplers.targets import load
from mlsim.workflow.simulation.run import run
from mlsim.workflow.training.ebm import NetworkSettings, Recipe, prepare


def main() -> None:
    """Train, export, verify, run, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the 1,000 training samples")
    parser.add_argument("--ps", type=float, default=100.0, help="length of each of four runs, ps")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ebm"))
    given = parser.parse_args()

    prepared = prepare("dw4", NetworkSettings(), Recipe(frames=1000), seed=1)
    train = TrainSettings(
        epochs=given.epochs, batch_size=100, learning_rate=5e-3, patience=given.epochs, ema_decay=0.98
    )
    contrast = ContrastiveSettings(negatives="langevin", steps=5, warm_steps=8 * given.epochs, energy_square=1e-4)
    found = fit(prepared.problem, train, contrast, given.output / "fit", prepared.facts)
    print(f"{found.epochs} epochs, held-out denoising error {found.held_out:.3f} (1 would be no score at all)")

    description = Description(
        role="potential", force_field="none", water="none", temperature_K=float(prepared.facts["temperature_K"])
    )
    model = prepared.problem.model
    artifact = export(model, prepared.molecule, given.output / "forcefields" / "my-dw4", description)
    report = verify(artifact)
    artifact = artifact.with_verification(report.record())
    print(f"{artifact.directory}: {len(report.checks)} checks, all passed: {report.passed}")

    solvent = f"learned:{artifact.directory}"
    settings = mlsim.RunSettings(
        system="dw4", solvent=solvent, ns=given.ps / 1000, timestep_fs=10, replicas=4, report_ps=0.2, seed=1
    )
    run(settings, given.output / "run")
    replicas = mlsim.Run.open(given.output / "run").replicas
    positions = np.concatenate([replica.positions()[replica.n_frames // 5 :] for replica in replicas])
    energies, _ = ForceField(artifact).bind(prepared.molecule).evaluate(positions)
    print(f"{len(positions)} frames, learned energy {energies.mean():.2f} +- {energies.std():.2f} kJ/mol")

    first, second = np.triu_indices(4, 1)
    reference = load("dw4").positions.reshape(-1, 4, 2)
    for name, x in (("reference", reference), ("learned, in OpenMM", positions / LENGTH_NM)):
        lengths = np.linalg.norm(x[:, first] - x[:, second], axis=-1).ravel()
        plt.hist(lengths, bins=60, range=(1.0, 7.0), density=True, histtype="step", label=name)
    plt.xlabel("pair distance")
    plt.ylabel("density")
    plt.legend()
    plt.savefig(given.output / "distances.png", dpi=150)
    print(f"figure in {given.output / 'distances.png'}")


if __name__ == "__main__":
    main()
