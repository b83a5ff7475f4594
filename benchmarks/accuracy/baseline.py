"""Does a generalized Born baseline under the network make it more accurate?

Force matching of the difference from nothing, OBC2 and GBn2, same data, same network, no second stage (a baseline has
to act beside the network in every run, which costs the speed of the learned solvent).

    python -m benchmarks.accuracy.baseline --pool runs/solvents/issnet_issnet-ala2
"""

from __future__ import annotations

from typing import Any

from benchmarks.accuracy.experiment import arguments, measure
from benchmarks.accuracy.recipe import Variant
from benchmarks.result import Claim
from mlsim.analysis.compare import Comparison
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors

NS = 5.0


def claims(comparison: Comparison, errors: MeanForceErrors | None, rows: list[dict[str, Any]]) -> list[Claim]:
    """Nothing is promised here: the table answers the question."""
    return []


def main() -> None:
    """Train with each baseline and compare."""
    question = __doc__.splitlines()[0]
    variants = [
        Variant(f"baseline-{name}" if name != "none" else f"ns{NS:g}", NS, baseline=name, stages=("forces",))
        for name in ("none", "obc2", "gbn2")
    ]
    measure("baseline", question, arguments(question), variants, claims, born=("obc2", "gbn2"))


if __name__ == "__main__":
    main()
