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
from mlsim.analysis.basins import assign
from mlsim.md.settings import RunSettings
from mlsim.md.trajectory import Run
from mlsim.workflow.run import run

REPORT_PS = 1.0


@dataclass(frozen=True)
class Source:
    """One trajectory: what is run, and which residues have both backbone torsions."""

    system: str
    solvent: str
    ns: float
    temperature_K: float
    residues: tuple[int, ...]
    seeds: tuple[tuple[str, int], ...]

    def place(self, work: Path, role: str) -> Path:
        """Run directory of ``role``."""
        return work / f"{self.system}-{role}"


SOURCES = {
    "alanine-dipeptide": Source("alanine-dipeptide", "issnet", 5.0, 450.0, (2,), (("train", 101), ("test", 202))),
    "alanine-tripeptide": Source("alanine-tripeptide", "vacuum", 4.0, 450.0, (2, 3), (("train", 103), ("test", 204))),
    "chignolin": Source("chignolin", "vacuum", 0.1, 400.0, (), (("train", 105),)),
}


def trajectory(name: str, role: str, work: Path) -> Run:
    """The run, made or continued if it is not complete."""
    source = SOURCES[name]
    place = source.place(work, role)
    settings = RunSettings(
        system=source.system,
        solvent=source.solvent,
        ns=source.ns,
        temperature_K=source.temperature_K,
        seed=dict(source.seeds)[role],
        report_ps=REPORT_PS,
    )
    if not (place / "run.json").exists():
        run(settings, place, "new")
    elif Run.open(place).record["status"] != "complete":
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
    parser.add_argument("--only", default="", help="SYSTEM-ROLE of one run")
    given = parser.parse_args()
    work = given.work
    for name, source in SOURCES.items():
        for role, _ in source.seeds:
            if given.only not in ("", f"{name}-{role}"):
                continue
            made = trajectory(name, role, work)
            print(f"{name} {role}: {made.replicas[0].n_frames} frames", flush=True)
            if source.residues:
                numbers, counts = np.unique(states(torsions(made, source.residues)), return_counts=True)
                print("  states " + ", ".join(f"{n}: {c}" for n, c in zip(numbers, counts, strict=True)))


if __name__ == "__main__":
    main()
