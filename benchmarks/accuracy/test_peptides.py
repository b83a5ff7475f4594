"""How near is a solvent for any peptide to the mean force of explicit water, on peptides that nothing has seen?

Labels are mean solvent forces on held conformations (``benchmarks.accuracy.test_labels``): designed conformations
spread over backbone basins, rotamers and distances of charges, chignolin folded and unfolded. Errors are root mean
squares per component without net force and torque, the labels' own noise taken off in squares; intervals (95 %) are
from resampling conformations, start by start.

    E^2 = mean_f [ |P (f - F)|^2 / 3N - tr P C_f / 3N ]

The spread of the committee that travels with the force field should be large where the error is: their rank correlation
over all labels.

    python -m benchmarks.accuracy.test_peptides [--forcefield NAME]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.result import Claim, write_result
from mlsim.chem.catalog import forcefield_directory
from mlsim.chem.peptide import build
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.bind import load_forcefield
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.potentials.born import GB_MODELS
from mlsim.seeds import numpy_stream
from mlsim.workflow.training.baseline import born_forces

LABELS = Path(__file__).resolve().parents[2] / "systems" / "peptides" / "test"
SMALL_ATOMS = 100
_RESAMPLES = 2000
Floats = NDArray[np.float64]


def noise_of(frames: ForceFrames) -> Floats:
    """Variance of every label's error [F], (kJ/mol/nm)^2 per component, in the order of the frames."""
    starts = frames.provenance["starts"]
    return np.concatenate([starts[str(k)]["internal_variance"] for k in _in_order(frames)])


def _in_order(frames: ForceFrames) -> list[int]:
    """Numbers of the starts, as their labels come."""
    return [int(k) for k in frames.provenance["starts"]]


def groups_of(frames: ForceFrames) -> NDArray[np.int64]:
    """Which start every label belongs to [F]."""
    starts = frames.provenance["starts"]
    counts = [len(starts[str(k)]["internal_variance"]) for k in _in_order(frames)]
    return np.repeat(np.arange(len(counts)), counts)


def squared(frames: ForceFrames, forces: Floats) -> Floats:
    """Squared error of every label without the label's noise [F], (kJ/mol/nm)^2 per component."""
    error = remove_rigid(np.asarray(frames.forces, dtype=np.float64) - forces, frames.positions)
    return np.asarray((error**2).mean(axis=(1, 2)) - noise_of(frames))


def resampled(groups: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """How often every label is drawn [R, F]: whole starts, with replacement."""
    generator, members = numpy_stream(1, f"benchmarks.test_peptides.{name}"), int(groups.max()) + 1
    rows = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(members, size=members)
        rows.append(np.bincount(np.concatenate([np.flatnonzero(groups == g) for g in drawn]), minlength=len(groups)))
    return np.array(rows)


def root(square: Floats) -> Floats:
    """Square root that keeps the sign."""
    return np.asarray(np.sign(square) * np.sqrt(np.abs(square)))


def peptide(path: Path, forcefield: str) -> dict[str, Any]:
    """Errors of the solvent and of every GB model on one test peptide."""
    name, frames = path.stem, ForceFrames.load(path)
    molecule = build(name)
    x = np.asarray(frames.positions, dtype=np.float64)
    forces = {gb: born_forces(gb, molecule, x) for gb in GB_MODELS}
    field = load_forcefield(forcefield_directory(forcefield))
    forces["learned"] = field.bind(molecule).evaluate(x)[1]
    weights = resampled(groups_of(frames), name)
    squares = {key: squared(frames, value) for key, value in forces.items()}
    draws = {key: root(weights @ s / weights.sum(axis=1)) for key, s in squares.items()}
    row: dict[str, Any] = {"peptide": name, "labels": len(frames), "atoms": frames.n_atoms}
    members = field.artifact.members()
    if members is not None:
        row["spread"] = members.bind(molecule).distance(x).tolist()
        row["squared_error"] = squares["learned"].tolist()
        row["rank_correlation"] = float(spearmanr(row["spread"], row["squared_error"])[0])
    row["noise"] = float(np.sqrt(noise_of(frames).mean()))
    for key, s in squares.items():
        low, high = np.quantile(draws[key], [0.025, 0.975])
        row[key] = {"value": float(root(s.mean())), "low": float(low), "high": float(high)}
    best = min(GB_MODELS, key=lambda gb: row[gb]["value"])
    ratio = draws["learned"] / np.minimum.reduce([draws[gb] for gb in GB_MODELS])
    low, high = np.quantile(ratio, [0.025, 0.975])
    value = row["learned"]["value"] / row[best]["value"]
    row |= {"best_gb": best, "ratio": {"value": value, "low": float(low), "high": float(high)}}
    if name == "YYDPETGTWY":
        folded = groups_of(frames) == 0
        row["folded"] = {key: float(root(s[folded].mean())) for key, s in squares.items()}
        row["unfolded"] = {key: float(root(s[~folded].mean())) for key, s in squares.items()}
    return row


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forcefield", default="issnet-peptides", help="Name or directory of the force field.")
    asked = parser.parse_args()
    rows = [peptide(path, asked.forcefield) for path in sorted(LABELS.glob("*.h5"))]
    for row in rows:
        print(f"{row['peptide']}: {row['learned']['value']:.1f}, {row['best_gb']} {row[row['best_gb']]['value']:.1f}")
    ratios = [row["ratio"]["value"] for row in rows]
    small = [row["learned"]["value"] for row in rows if row["atoms"] < SMALL_ATOMS]
    claims = [
        Claim("9.1-worst", f"largest of {len(rows)} ratios of the error to the best GB model's", max(ratios), "<= 0.5",
              len(rows) == 6 and max(ratios) <= 0.5),
        Claim("9.1-mean", "mean ratio", float(np.mean(ratios)), "<= 0.333",
              len(rows) == 6 and float(np.mean(ratios)) <= 1 / 3),
        Claim("9.1-small", "mean error on peptides of less than 100 atoms, kJ/mol/nm", float(np.mean(small)), "<= 10",
              float(np.mean(small)) <= 10.0),
    ]  # fmt: skip
    if all("spread" in row for row in rows):
        spread, error = (np.concatenate([row[key] for row in rows]) for key in ("spread", "squared_error"))
        found = float(spearmanr(spread, error)[0])
        claims.append(
            Claim(
                "9.6-rank", f"rank correlation of spread and error, {len(spread)} labels", found, "> 0.5", found > 0.5
            )
        )
    write_result("accuracy.test_peptides", __doc__.splitlines()[0], rows, claims)


if __name__ == "__main__":
    main()
