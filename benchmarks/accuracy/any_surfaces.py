"""Are the free-energy surfaces of the solvent for any peptide those of explicit water?

Flattened runs with the solvent on alanine dipeptide (one of its training peptides), on ACE-ALA-ALA-NME and on
ACE-LYS-ALA-GLU-NME (which it never saw), compared with explicit-water surfaces of several seeds; GB models beside it on
the same frames reweighted, or on the larger peptide from runs of their own. Errors are noise-corrected. A reference
carries a claim only if its own noise is at most 0.12 kcal/mol; the other rows are printed with their noise.

    python -m benchmarks.accuracy.any_surfaces
    python -m benchmarks.accuracy.any_surfaces --systems alanine-dipeptide --ns 4
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.peptides import PEPTIDES, Models, Peptide
from benchmarks.accuracy.recipe import Bench, numbers
from benchmarks.result import Claim, write_result
from mlsim.analysis import report
from mlsim.analysis.compare import Comparison, compare
from mlsim.analysis.figures import panels, profiles
from mlsim.runs.trajectory import Run
from mlsim.units import KJ_PER_KCAL

NAME = "issnet-peptides"
#: Largest noise of a reference that can carry a claim, kcal/mol.
NOISE_KCAL = 0.12
DIPEPTIDE = Peptide("alanine-dipeptide", NAME, {"": ("phi", "psi")})
_ALL = {DIPEPTIDE.system: DIPEPTIDE, **PEPTIDES}


def compared(peptide: Peptide, ns: float, work: Path) -> dict[str, Comparison]:
    """Comparisons of one peptide by the name of the surface."""
    place = Path("systems") / peptide.system / "reference"
    none = work / "none"
    bench = Bench(work / peptide.system, none, none, place / peptide.bias, system=peptide.system)
    bench.flat_ns = ns
    pool = bench.flattened(f"issnet:{NAME}", ns, 2, seed=101)
    bench.pool, bench.pool_field = pool, NAME
    models = Models(bench, {NAME: Run.open(pool)}, peptide)
    found = {}
    for name, specs in peptide.surfaces.items():
        reference = bench.reference(f"surface-{name}" if name else "surface")
        found[name or "ala2"] = compare(reference, models.surfaces(specs))
        print(peptide.system, name, report.table(found[name or "ala2"]), sep="\n", flush=True)
        picture = Path(f"benchmarks/results/any_surfaces-{peptide.system}{'-' if name else ''}{name}.png")
        if len(specs) == 1:
            profiles(found[name or "ala2"].surfaces, picture)
        else:
            panels(found[name or "ala2"].surfaces, picture, report.notes(found[name or "ala2"]))
    return found


def ratio(comparison: Comparison) -> dict[str, Any]:
    """Error of the solvent over that of the best GB model, kcal/mol, with the noise of the reference."""
    errors = {row.label: row.rmse_corrected.value / KJ_PER_KCAL for row in comparison.rows}
    best = min((error, label) for label, error in errors.items() if label != NAME)
    return {
        "learned": errors[NAME],
        "best_gb": best[1],
        "best_gb_error": best[0],
        "reference_noise": comparison.noise / KJ_PER_KCAL,
        "ratio": errors[NAME] / best[0] if best[0] > 0 else float("inf"),
    }


def main() -> None:
    """Run, compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=sorted(_ALL), default=list(_ALL))
    parser.add_argument("--ns", type=float, default=8.0, help="Length of each of two flattened runs, ns.")
    parser.add_argument("--work", type=Path, default=Path("runs/any-surfaces"), help="Path of the runs (resumable).")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, Any]] = {}
    for system in asked.systems:
        for name, comparison in compared(_ALL[system], asked.ns, asked.work).items():
            key = f"{system} {name}"
            ratios[key] = ratio(comparison)
            rows.append({"surface": key, **ratios[key]})
            rows += [{"surface": key, "solvent": row.label, **numbers(row, comparison)} for row in comparison.rows]
    quiet = {key: r for key, r in ratios.items() if r["reference_noise"] <= NOISE_KCAL}
    claims = [
        Claim(
            "9.2",
            f"mean ratio of the error to the best GB model's over {len(quiet)} surfaces with noise <= {NOISE_KCAL}",
            float(np.mean([r["ratio"] for r in quiet.values()])) if quiet else float("nan"),
            "<= 0.5, of 7 surfaces",
            len(quiet) == len(ratios) == 7 and float(np.mean([r["ratio"] for r in quiet.values()])) <= 0.5,
        )
    ]
    for key, r in ratios.items():
        words = f"{key}: error, kcal/mol, against the best GB model's ({r['best_gb']}; noise of the reference"
        text, bound = f"{words} {r['reference_noise']:.2f})", f"<= {r['best_gb_error']:.3f}"
        claims.append(Claim("9.2", text, r["learned"], bound, key in quiet and r["learned"] <= r["best_gb_error"]))
    if DIPEPTIDE.system in asked.systems:
        value = ratios["alanine-dipeptide ala2"]["learned"]
        claims.append(Claim("9.3", "alanine dipeptide, surface error, kcal/mol", value, "<= 0.12", value <= 0.12))
    write_result("accuracy.any_surfaces", __doc__.splitlines()[0], rows, claims)


if __name__ == "__main__":
    main()
