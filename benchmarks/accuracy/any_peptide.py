"""How near is the solvent for any peptide to explicit water, in forces, beside every generalized-Born model?

Two kinds of labels, none of which decided a weight: mean forces on 40 held conformations of alanine dipeptide (the
noise of the labels taken off), and instantaneous forces of the five validation peptides of the set, where only
differences of squared errors can be told (the noise of single frames is common to all models and cancels):

    python -m benchmarks.accuracy.any_peptide
    python -m benchmarks.accuracy.any_peptide --sequences 40 --ns 5 --work runs/any-peptide

With ``--sequences`` random peptides of 2 to 20 residues are run at 4 fs: no blow-up, no peptide bond that flips to cis,
no inversion, mean temperature. Alanine dipeptide is among the training peptides (1 of some 90); the validation peptides
are for choices. The test peptides have no held labels yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import Claim, write_result
from mlsim.chem import checks
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.chem.sequence import ONE_TO_THREE
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.bind import load_forcefield
from mlsim.errors import UnphysicalError
from mlsim.fitting.solvent.mean_force_error import mean_force_errors
from mlsim.md.settings import RunSettings
from mlsim.models import weights
from mlsim.models.transferable.peptide_solvent import TransferableISSNet
from mlsim.potentials.born import GB_MODELS
from mlsim.runs.trajectory import Run
from mlsim.seeds import numpy_stream
from mlsim.workflow.simulation.run import run
from mlsim.workflow.training.baseline import born_forces
from mlsim.workflow.training.peptide_solvent_fit import peptides_of, validation_errors

NAME = "issnet-peptides"
SYSTEMS = Path(__file__).resolve().parents[2] / "systems"
LABELS, PACKED = SYSTEMS / "alanine-dipeptide" / "reference" / "labels.h5", SYSTEMS / "peptides" / "training"


def dipeptide() -> tuple[list[dict[str, Any]], list[Claim]]:
    """Mean-force errors on alanine dipeptide, kJ/mol/nm."""
    molecule, frames = load_system("alanine-dipeptide"), ForceFrames.load(LABELS)
    x = np.asarray(frames.positions, dtype=np.float64)
    predicted = {name: born_forces(name, molecule, x) for name in GB_MODELS}
    predicted[NAME] = load_forcefield(forcefield_directory(NAME)).bind(molecule).evaluate(x)[1]
    errors = mean_force_errors(frames, predicted, 1.0)
    rows = [
        {"set": "alanine dipeptide, held", "model": row.predictor, "mean_force": vars(row.projected)}
        for row in errors.rows
    ]
    value = {row.predictor: row.projected.value for row in errors.rows}
    best = min(value[name] for name in GB_MODELS)
    return rows, [
        Claim(
            "9.1-dipeptide", "mean-force error over that of the best GB model", value[NAME] / best, "<= 0.5",
            value[NAME] <= 0.5 * best,
        ),
        Claim("9.1-dipeptide-absolute", "mean-force error, kJ/mol/nm", value[NAME], "<= 10", value[NAME] <= 10.0),
    ]  # fmt: skip


def validation() -> tuple[list[dict[str, Any]], list[Claim]]:
    """Squared errors of the GB models less that of the solvent, on the validation peptides."""
    model = weights.load(forcefield_directory(NAME))
    assert isinstance(model, TransferableISSNet)
    found = validation_errors(model, list(peptides_of(PACKED, "validation")))
    rows = [
        {"set": row.name, "frames": row.n_frames, "gain": {n: vars(gain) for n, gain in row.gain.items()}}
        for row in found.peptides
    ]
    least = min(
        row.gain[n].value if row.gain[n].low is None else row.gain[n].low  # type: ignore[type-var]
        for row in found.peptides
        for n in GB_MODELS
    )
    text = "least gain over a GB model on a validation peptide (lower end), (kJ/mol/nm)^2"
    return rows, [Claim("9.1-validation", text, float(least or 0.0), "> 0", bool(least and least > 0))]


def stability(sequences: int, ns: float, work: Path) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Random peptides at 4 fs."""
    rows = []
    for k in range(sequences):
        generator = numpy_stream(k, "benchmarks.any_peptide")
        length = int(generator.integers(2, 21))
        letters = "".join(generator.choice(list(ONE_TO_THREE), length))
        sequence = f"ACE-{letters}-NME" if length < 4 or k % 2 else letters
        molecule, directory = build("-".join(_three(sequence)), sequence), work / f"{k:02d}-{letters}"
        done = (directory / "run.json").is_file()
        settings = RunSettings(system="-".join(_three(sequence)), solvent=f"issnet:{NAME}", ns=ns, seed=k + 1)
        try:
            run(settings, directory, "resume" if done else "new")
            failed = ""
        except UnphysicalError as error:
            failed = str(error)
        rows.append({"sequence": sequence, "ns": ns, "failure": failed, **_soundness(molecule, directory)})
        print(rows[-1])
    blown = sum(bool(row["failure"]) for row in rows)
    flipped = sum(row["cis"] + row["inverted"] for row in rows)
    enough = sequences >= 40 and ns >= 5.0
    warm = max(abs(row["temperature_K"] - 300.0) for row in rows)
    return rows, [
        Claim("9.4-blow-ups", f"blow-ups in {sequences} sequences of {ns:g} ns", blown, "0 of 40, 5 ns each",
              enough and blown == 0),
        Claim("9.4-flips", "cis flips and inversions", flipped, "0 of 40, 5 ns each", enough and flipped == 0),
        Claim("9.4-temperature", "largest deviation of a mean temperature from 300 K, K", warm, "<= 1",
              enough and warm <= 1.0),
    ]  # fmt: skip


def _three(sequence: str) -> list[str]:
    parts = sequence.split("-")
    return [r for part in parts for r in ([part] if part in ("ACE", "NME") else [ONE_TO_THREE[c] for c in part])]


def _soundness(molecule: Molecule, directory: Path) -> dict[str, Any]:
    """Frames with a peptide bond that is cis (not before proline), or with an inverted centre; mean temperature."""
    replica = Run.open(directory).replicas[0]
    frames = replica.positions()[:: max(1, replica.n_frames // 50)]
    cis = inverted = 0
    for x in frames:
        here = molecule.with_positions(x)
        cis += any(abs(w) < 90 and not after.startswith("PRO") for _, after, w in checks.omegas(here))
        inverted += any(volume < 0 for _, _, volume in checks.chirality(here))
    kelvin = float(replica.column("temperature_K").mean())
    return {"atoms": molecule.n_atoms, "cis": cis, "inverted": inverted, "temperature_K": kelvin}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=0, help="Number of random peptides to run.")
    parser.add_argument("--ns", type=float, default=5.0, help="Length of each run, ns.")
    parser.add_argument("--work", type=Path, default=Path("runs/any-peptide"), help="Path of the runs.")
    asked = parser.parse_args()
    rows, claims = dipeptide()
    more, others = validation()
    rows, claims = rows + more, claims + others
    if asked.sequences:
        more, others = stability(asked.sequences, asked.ns, asked.work)
        rows, claims = rows + more, claims + others
    write_result("accuracy.any_peptide", __doc__.splitlines()[0], rows, claims)


if __name__ == "__main__":
    main()
