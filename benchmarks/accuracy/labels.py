"""At the same 2 ns of explicit water: forces of moving frames, or mean forces of held conformations?

The labels are 100 conformations of the training run, each held for 2 + 18 ps (``mlsim label``): 2 ns in all, against
the first 2 ns of the run itself. Same network, force matching only.

    mlsim label train/seed-0201 --system alanine-dipeptide --engine gromacs --stderr none --max-ps 18 \
        --equilibration-ps 2 --count 100 -o runs/accuracy/labels-train
    python -m benchmarks.accuracy.labels --pool runs/solvents/issnet_issnet-ala2

The label file is looked for at labels-train/labels.h5 in ``--work``.
"""

from __future__ import annotations

from typing import Any

from benchmarks.accuracy.experiment import arguments, measure
from benchmarks.accuracy.recipe import Variant
from benchmarks.result import Claim
from mlsim.analysis.compare import Comparison
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors

NS = 2.0


def claims(comparison: Comparison, errors: MeanForceErrors | None, rows: list[dict[str, Any]]) -> list[Claim]:
    """Nothing is promised here: the table answers the question."""
    return []


def main() -> None:
    """Train on each kind of label and compare."""
    question = __doc__.splitlines()[0]
    bench = arguments(question)
    variants = [
        Variant(f"ns{NS:g}", NS, stages=("forces",)),
        Variant("labels", NS, stages=("forces",), labels="labels-train/labels.h5"),
    ]
    measure("labels", question, bench, variants, claims, born=())


if __name__ == "__main__":
    main()
