"""Mean forces of explicit water on held conformations of the test peptides, which no training or choice may see.

    conformation k (designed, or a shipped structure) -> short run by GROMACS -> frames of it, held -> 50 ps each

Conformations are spread as those of the training set are: backbone basins, rotamers, distances of charges; chignolin
stands folded (its shipped structure) and unfolded. The waters of a label are those of its run.

    python -m benchmarks.accuracy.test_labels --work runs/test-labels

One directory per peptide and start; the command continues where it was killed. The labels of a peptide are put into
``systems/peptides/test/NAME.h5``: mean forces, standard errors, and of the covariance of each label the one number that
comparisons need, the variance of the force without net force and torque (``noise``).
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlsim.chem.catalog import load_system
from mlsim.chem.conformers import conformer
from mlsim.chem.molecule import Molecule
from mlsim.chem.sequence import parse
from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.fitting.solvent.mean_force_error import internal_variance
from mlsim.md.gromacs.water_run import FOLDER
from mlsim.md.settings import LabelSettings, ReferenceSettings
from mlsim.workflow.conformations import read
from mlsim.workflow.force_data.label import LEAST_GAP_NM, label
from mlsim.workflow.force_data.peptide_set import Manifest, bias_for_kinds
from mlsim.workflow.force_data.reference import run_seed, seed_directory

SYSTEMS = Path(__file__).resolve().parents[2] / "systems"
MANIFEST, TARGET = SYSTEMS / "peptides" / "data.yaml", SYSTEMS / "peptides" / "test"
FOLDED = {"YYDPETGTWY": "chignolin"}
LABEL_PS = 50.0
WARM_NS = 0.1


@dataclass(frozen=True)
class Start:
    """Where labels begin: a conformation, its number, and how many labels its run gives."""

    molecule: Molecule
    system: str
    number: int
    labels: int
    biased: bool = True


def starts(sequence: str) -> list[Start]:
    """Eight designed conformations of four labels; a folded peptide twelve labels there and six unfolded starts."""
    folded = FOLDED.get(sequence)
    if folded is None:
        return [Start(conformer(sequence, k), sequence, k, 4) for k in range(8)]
    first = Start(load_system(folded), folded, 100, 12, biased=False)
    return [first, *(Start(conformer(sequence, k), sequence, k, 3) for k in range(6))]


def labels_of(start: Start, manifest: Manifest, home: Path) -> ForceFrames:
    """Labels of one start, made or read."""
    finished = home / "labels.h5"
    if not finished.is_file():
        home.mkdir(parents=True, exist_ok=True)
        bias = home / "bias.npz"
        if start.biased and not bias.exists():
            bias_for_kinds(start.molecule, MANIFEST.parent / manifest.biases, manifest.temperature_K).save(bias)
        settings = ReferenceSettings(
            system=start.system,
            engine="gromacs",
            ns=WARM_NS,
            bias=str(bias) if start.biased else "none",
            temperature_K=manifest.temperature_K,
            padding_nm=manifest.padding_nm,
            ions=manifest.ions,
            box_equilibration_ps=manifest.equilibration_ps,
            record_ps=manifest.record_ps,
            hydrogen_mass_Da=manifest.hydrogen_mass_Da,
            threads=1,
        )
        run_seed(start.molecule, settings, home, start.number + 1)
        run, place = seed_directory(home, start.number + 1), home / "labels"
        wanted = LabelSettings(
            system=start.system,
            engine="gromacs",
            count=start.labels,
            stderr_kJ_mol_nm=None,
            max_ps=LABEL_PS,
            temperature_K=manifest.temperature_K,
            threads=1,
        )
        found = read(run, start.molecule)
        edge = float(np.diag(np.load(run / "start.npz")["box"]).min())
        arms = np.linalg.norm(found.positions - found.positions.mean(axis=1, keepdims=True), axis=2).max(axis=1)
        fits = edge - 2 * arms >= LEAST_GAP_NM  # the waters of the run must surround the conformation
        settled = found.take(np.flatnonzero((found.time_ps > 2 * manifest.discard_ps) & fits))
        made = label(wanted, settled, place, box=run)
        if made is None:
            raise SystemExit(f"{place}: no labels")
        shutil.rmtree(run / FOLDER, ignore_errors=True)
        made.rename(finished)
    return ForceFrames.load(finished)


def light(frames: ForceFrames, number: int) -> ForceFrames:
    """The frames with the variance that comparisons need in place of the covariance."""
    facts = {**frames.provenance, "internal_variance": [float(v) for v in internal_variance(frames)]}
    return replace(
        frames, covariance=None, run=np.full(len(frames), number), provenance={"starts": {str(number): facts}}
    )


def joined(parts: list[ForceFrames]) -> ForceFrames:
    """All labels of a peptide; what was noted of every start stays."""
    facts = {k: v for part in parts for k, v in part.provenance["starts"].items()}
    return replace(concatenate(parts), provenance={"kind": "frozen-solute mean forces", "starts": facts})


def main() -> None:
    """Make what is missing; every finished peptide is written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/test-labels"), help="Path of the runs.")
    asked = parser.parse_args()
    manifest = Manifest.load(MANIFEST)
    TARGET.mkdir(exist_ok=True)
    for sequence in manifest.test:
        name = parse(sequence).text
        target = TARGET / f"{name}.h5"
        if target.exists():
            continue
        parts = []
        for start in starts(sequence):
            frames = labels_of(start, manifest, asked.work / name / f"start-{start.number:03d}")
            parts.append(light(frames, start.number))
            print(f"{name} start {start.number}: {len(frames)} labels", flush=True)
        joined(parts).save(target)


if __name__ == "__main__":
    main()
