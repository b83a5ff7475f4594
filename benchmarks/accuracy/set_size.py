"""What do more nanoseconds, and more kinds of peptides, give a solvent for any peptide?

The shipped recipe (without teachers) on parts of the packed set: the first quarter and half of every segment; single
residues with caps only; those and pairs; everything. Validation peptides are left out of all. Errors are those of mean
forces on the test peptides (``benchmarks.accuracy.test_peptides``), which decide nothing.

    python -m benchmarks.accuracy.set_size

Every fit is kept in ``--work`` and continued where it was stopped.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.test_peptides import LABELS, root, squared
from benchmarks.result import Claim, write_result
from mlsim.chem.peptide import build
from mlsim.chem.sequence import parse
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.packed import pack, unpack
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.fitting.checkpoint import LAYOUT
from mlsim.fitting.transferable.many_peptides import solvent_forces
from mlsim.models import weights
from mlsim.models.transferable.peptide_solvent import TransferableISSNet
from mlsim.starts import standing
from mlsim.units import PS_PER_NS
from mlsim.workflow.training.peptide_settings import PeptideSolventSettings
from mlsim.workflow.training.peptide_solvent_fit import train_peptides

PACKED = Path(__file__).resolve().parents[2] / "systems" / "peptides" / "training"
FEATURES, EPOCHS, MOST_EPOCHS = 32, 12, 24


def residues(name: str) -> int:
    """Number of amino acids."""
    return sum(part not in ("ACE", "NME", "NHE") for part in parse(name).text.split("-"))


#: Part -> share of every segment, and which training peptides.
PARTS: dict[str, tuple[float, Callable[[str], bool]]] = {
    "a quarter of the time": (0.25, lambda name: True),
    "half of the time": (0.5, lambda name: True),
    "single residues": (1.0, lambda name: residues(name) == 1),
    "single residues and pairs": (1.0, lambda name: residues(name) <= 2),
    "everything": (1.0, lambda name: True),
}


def subset(part: str, target: Path) -> tuple[int, float]:
    """Packed frames of a part; number of peptides and nanoseconds."""
    share, wanted = PARTS[part]
    shutil.rmtree(target, ignore_errors=True)
    names, ns = set(), 0.0
    for path in sorted(PACKED.glob("*/start-*.h5")):
        frames = unpack(path)
        if frames.provenance.get("role") != "training" or not wanted(path.parent.name):
            continue
        chosen = frames.take(np.arange(int(share * len(frames))))
        names.add(path.parent.name)
        ns += float(np.ptp(chosen.time_ps)) / PS_PER_NS
        pack(chosen, target / path.parent.name / path.name)
    return len(names), ns


def errors(fit: Path) -> dict[str, float]:
    """Mean-force error on every test peptide, kJ/mol/nm."""
    model = weights.load(fit)
    assert isinstance(model, TransferableISSNet)
    found = {}
    for path in sorted(LABELS.glob("*.h5")):
        frames = ForceFrames.load(path)
        forces = solvent_forces(model, solvent_atoms(build(path.stem)), np.asarray(frames.positions, dtype=np.float64))
        found[path.stem] = float(root(squared(frames, forces).mean()))
    return found


def main() -> None:
    """Train on every part, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/set-size"), help="Path of the fits (resumable).")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for part in asked.parts:
        place = asked.work / part.replace(" ", "-")
        peptides, ns = subset(part, place / "data")
        epochs = min(MOST_EPOCHS, round(EPOCHS / PARTS[part][0]))
        settings = PeptideSolventSettings(features=FEATURES, epochs=epochs, threads=1)
        fit = place / "fit"
        begun = standing(fit, LAYOUT).begun
        train_peptides(place / "data", fit, settings, "auto", "resume" if begun else "new")
        found = errors(fit)
        mean = float(np.mean(list(found.values())))
        rows.append(
            {"part": part, "peptides": peptides, "ns": round(ns, 2), "epochs": epochs, "errors": found, "mean": mean}
        )
        print(f"{part}: {peptides} peptides, {ns:.1f} ns, error {mean:.2f} kJ/mol/nm", flush=True)
    means = {row["part"]: row["mean"] for row in rows}
    claims = []
    if {"everything", "half of the time", "single residues and pairs"} <= set(means):
        for less in ("half of the time", "single residues and pairs"):
            words = f"mean error over {len(rows[0]['errors'])} test peptides with {less} less that with everything"
            gain = means[less] - means["everything"]
            claims.append(Claim("9.7", words + ", kJ/mol/nm", gain, "> 0", gain > 0))
    write_result("accuracy.set_size", __doc__.splitlines()[0], rows, claims)


if __name__ == "__main__":
    main()
