"""Trajectories of peptides that encoders are trained and judged on: same verb, other seeds, made once and resumable.

``train`` runs feed the shipped encoders and every fitted baseline; ``test`` runs start from another seed and are
touched only for scores. Alanine dipeptide runs in the learned solvent, the larger peptides in vacuum because that is
what a single core affords; 450 K lets a few nanoseconds cross between basins.

    python -m benchmarks.repr.peptides --work runs/peptides
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load
from numpy.typing import NDArray

from mlsim.analysis import observables
from mlsim.analysis.surfaces.basins import assign
from mlsim.md.settings import RunSettings
from mlsim.runs.trajectory import Run
from mlsim.workflow.simulation.run import run

REPORT_PS = 1.0


@dataclass(frozen=True)
class Source:
    """What is run: (role, seed, ns) of every run, and which residues have both backbone torsions."""

    system: str
    solvent: str
    temperature_K: float
    residues: tuple[int, ...]
    runs: tuple[tuple[str, int, float], ...]

    def place(self, work: Path, role: str) -> Path:
        """Run directory of ``role``."""
        return work / f"{self.system}-{role}"


SOURCES = {
    "alanine-dipeptide": Source("alanine-dipeptide", "issnet", 450.0, (2,), (("train", 101, 5.0), ("test", 202, 3.0))),
    "chignolin": Source("chignolin", "vacuum", 400.0, (), (("train", 105, 0.1),)),
    "alanine-tripeptide": Source(
        "alanine-tripeptide", "vacuum", 450.0, (2, 3), (("train", 103, 2.0), ("test", 204, 2.0))
    ),
}


def trajectory(name: str, role: str, work: Path) -> Run:
    """The run, made or continued if it is not complete."""
    source = SOURCES[name]
    place = source.place(work, role)
    seed, ns = next((seed, ns) for known, seed, ns in source.runs if known == role)
    settings = RunSettings(
        system=source.system,
        solvent=source.solvent,
        ns=ns,
        temperature_K=source.temperature_K,
        seed=seed,
        report_ps=REPORT_PS,
    )
    if not (place / "run.json").exists():
        run(settings, place, "new")
    elif Run.open(place).record.status != "complete":
        run(settings, place, "resume")
    return Run.open(place)


def torsions(made: Run, residues: tuple[int, ...]) -> NDArray[np.float64]:
    """phi and psi of ``residues``, rad [F, 2 len(residues)]."""
    specs = [f"{name}:{residue}" for residue in residues for name in ("phi", "psi")]
    return np.asarray(observables.evaluate(made.replicas[0].positions(), made.topology, specs))


def states(angles: NDArray[np.float64]) -> NDArray[np.int64]:
    """Basin of each frame [F]; for several residues the product of their basins."""
    number = np.zeros(len(angles), dtype=np.int64)
    for k in range(0, angles.shape[1], 2):
        number = number * 4 + assign(angles[:, k], angles[:, k + 1])
    return number


def main() -> None:
    """Make every run that is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/peptides"))
    parser.add_argument("--only", default="", help="part of the names SYSTEM-ROLE of the runs to make")
    given = parser.parse_args()
    work = given.work
    for name, source in SOURCES.items():
        for role, _, _ in source.runs:
            if given.only not in f"{name}-{role}":
                continue
            made = trajectory(name, role, work)
            print(f"{name} {role}: {made.replicas[0].n_frames} frames", flush=True)
            if source.residues:
                numbers, counts = np.unique(states(torsions(made, source.residues)), return_counts=True)
                print("  states " + ", ".join(f"{n}: {c}" for n, c in zip(numbers, counts, strict=True)))


if __name__ == "__main__":
    main()
