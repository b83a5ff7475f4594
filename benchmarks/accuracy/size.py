"""How large must the network be?

Features and blocks at the same data and the same number of steps, force matching only.

    python -m benchmarks.accuracy.size --pool runs/solvents/issnet_issnet-ala2
"""

from __future__ import annotations

from typing import Any

from benchmarks.accuracy.experiment import arguments, measure
from benchmarks.accuracy.recipe import Variant
from benchmarks.result import Claim
from mlsim.analysis.compare import Comparison
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors

NS = 5.0
SIZES = ((32, 2), (64, 1), (64, 2), (64, 3), (128, 2))


def claims(comparison: Comparison, errors: MeanForceErrors | None, rows: list[dict[str, Any]]) -> list[Claim]:
    """Nothing is promised here: the table answers the question."""
    return []


def main() -> None:
    """Train every size and compare."""
    question = __doc__.splitlines()[0]
    variants = []
    for features, blocks in SIZES:
        size = {"features": features, "blocks": blocks}
        name = f"ns{NS:g}" if (features, blocks) == (64, 2) else f"size-{features}x{blocks}"
        variants.append(Variant(name, NS, size if name.startswith("size") else {}, stages=("forces",)))
    measure("size", question, arguments(question), variants, claims, born=())


if __name__ == "__main__":
    main()
