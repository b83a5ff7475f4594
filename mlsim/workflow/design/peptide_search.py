"""Search for peptides, new or from its last checkpoint, and the table of the best ones.

plan -> reward (free terms, simulated properties) -> soft Q-learning -> designs.csv, design.json
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlsim.files import write_json, write_text
from mlsim.md.signals import StopRequest
from mlsim.records import versions
from mlsim.repr.soft_q.diversity import mean_distance
from mlsim.repr.soft_q.peptide_rewards import amphipathic_moment, charge
from mlsim.repr.soft_q.search import SoftQ
from mlsim.workflow.design.design_plan import alphabet_of, objective, search_of
from mlsim.workflow.design.design_settings import DesignSettings
from mlsim.workflow.design.peptide_property import InterruptedSearch

TABLE, SUMMARY = "designs.csv", "design.json"
#: Number of steps between checkpoints.
_CHECKPOINT = 50


@dataclass(frozen=True)
class Design:
    """One sequence: its reward (0 to 100), log probability under the policy, net charge (e), helical moment."""

    sequence: str
    reward: float
    log_probability: float
    charge_e: int
    moment: float


@dataclass(frozen=True)
class Designs:
    """What a finished search leaves.

    Attributes
    ----------
    rows : tuple of Design
        The best, best first; also in ``table``.
    calls, steps : int
        Sequences that were evaluated, and gradient steps.
    distance : float
        Mean share of positions at which two designs differ.
    table : Path
    """

    rows: tuple[Design, ...]
    calls: int
    steps: int
    distance: float
    table: Path


def search(
    plan: DesignSettings,
    directory: Path,
    progress: Callable[[int, int, int], None] | None = None,
    stop: StopRequest | None = None,
) -> Designs | None:
    """Search as ``plan`` says; the same call continues from the last checkpoint in ``directory``.

    Parameters
    ----------
    progress : callable, optional
        Called with (step, steps, sequences evaluated so far).
    stop : StopRequest, optional

    Returns
    -------
    Designs or None
        None if it was stopped; the values simulated so far are kept.

    Raises
    ------
    MlsimError
        Whatever simulating a property raises.
    """
    stop = stop or StopRequest()
    made = SoftQ(alphabet_of(plan), objective(plan, directory, stop), search_of(plan), plan.given, seed=plan.seed)

    def show(step: int, steps: int) -> None:
        if progress is not None:
            progress(step, steps, made.reward.calls)

    with suppress(InterruptedSearch):
        made.fit(directory, checkpoint_every=_CHECKPOINT, progress=show, stop=lambda: stop.reason is not None)
    return None if stop.reason is not None else _report(plan, made, directory)


def _report(plan: DesignSettings, made: SoftQ, directory: Path) -> Designs:
    ranked = sorted(made.reward.known.items(), key=lambda pair: -pair[1])[: plan.count]
    log_p = made.log_probability([s for s, _ in ranked])
    rows = tuple(
        Design(s, float(value), float(p), charge(s), amphipathic_moment(s))
        for (s, value), p in zip(ranked, log_p, strict=True)
    )
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["sequence", "reward", "log_probability", "charge_e", "moment"])
    for row in rows:
        numbers = (f"{row.reward:.3f}", f"{row.log_probability:.3f}", row.charge_e, f"{row.moment:.3f}")
        table.writerow([row.sequence, *numbers])
    write_text(directory / TABLE, text.getvalue())
    distance = mean_distance([s for s, _ in ranked])
    record = {
        "calls": made.reward.calls,
        "steps": made.step,
        "distance_of_designs": distance,
        "history": made.history,
        "versions": versions(),
    }
    write_json(directory / SUMMARY, record)
    return Designs(rows, made.reward.calls, made.step, distance, directory / TABLE)
