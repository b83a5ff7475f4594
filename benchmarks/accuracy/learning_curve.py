"""How accurate is an ISSNet after 2, 5, 10 and 20 ns of explicit water?

The same recipe for every budget: 480,000 frames per training in as many passes as that takes, but at most 12. Both
stages, so that each budget also shows what the second one adds. Held out: the reference seeds and the frozen labels.

    python -m benchmarks.accuracy.learning_curve --pool runs/solvents/issnet_issnet-ala2
"""

from __future__ import annotations

from typing import Any

from benchmarks.accuracy.experiment import arguments, measure
from benchmarks.accuracy.recipe import Variant
from benchmarks.result import Claim
from mlsim.analysis.compare import Comparison
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors
from mlsim.units import KJ_PER_KCAL

BUDGETS_NS = (2.0, 5.0, 10.0, 20.0)


def claims(comparison: Comparison, errors: MeanForceErrors | None, rows: list[dict[str, Any]]) -> list[Claim]:
    """2.5: the accuracy of the other claims is reached with at most 20 ns."""
    best = {r["ns"]: r["fes_rmse_corrected_kcal_mol"]["value"] for r in rows if r.get("stages") == BOTH}
    most = max(best)
    return [
        Claim(
            "2.5",
            f"FES RMSE (kcal/mol, noise-corrected) with {most:g} ns of explicit water",
            best[most],
            "<= 0.08",
            best[most] <= 0.08 and most <= 20.0,
        ),
        Claim(
            "2.1",
            "noise of the reference (kcal/mol), from independent seeds",
            comparison.noise / KJ_PER_KCAL,
            "<= 0.08",
            comparison.noise / KJ_PER_KCAL <= 0.08 and comparison.reference.n_runs >= 3,
        ),
    ]


BOTH = ("forces", "populations")


def main() -> None:
    """Train for every budget and compare."""
    question = __doc__.splitlines()[0]
    bench = arguments(question)
    variants = []
    for ns in BUDGETS_NS:
        variants += [Variant(f"ns{ns:g}", ns, stages=("forces",)), Variant(f"ns{ns:g}", ns, stages=BOTH)]
    measure("learning_curve", question, bench, variants, claims)


if __name__ == "__main__":
    main()
