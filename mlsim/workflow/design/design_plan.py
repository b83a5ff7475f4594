"""What ``mlsim design`` searches for: the alphabet, the search and the objective that its settings describe.

    reward = weighted mean of the asked terms, each from 0 to 100

Free terms are functions of the sequence (charge, amphipathic moment, motif). The expensive one is a property from a
simulation of the peptide by this package. ``mlsim.repr`` searches, ``mlsim.workflow`` simulates; they meet here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsim.repr.soft_q.alphabet import Alphabet
from mlsim.repr.soft_q.policy import GPTSettings
from mlsim.repr.soft_q.rewards import Reward
from mlsim.repr.soft_q.search import CHECKPOINT
from mlsim.repr.soft_q.settings import SoftQSettings
from mlsim.starts import Layout
from mlsim.workflow.design.design_settings import DesignSettings
from mlsim.workflow.design.peptide_property import CACHE, SimulatedProperty

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlsim.md.signals import StopRequest

#: Points lost per unit of charge outside the wanted interval.
_CHARGE_SLOPE = 25.0
PROPERTIES = "properties"
#: A search is begun when it has a checkpoint, or values that were simulated for it.
LAYOUT = Layout(
    what="search",
    record="config.yaml",
    checkpoints=(CHECKPOINT, f"{PROPERTIES}/{CACHE}"),
    own=("config.yaml", PROPERTIES),
)


def alphabet_of(plan: DesignSettings) -> Alphabet:
    """Allowed sequences."""
    return Alphabet(plan.letters, plan.shortest, plan.longest)


def search_of(plan: DesignSettings) -> SoftQSettings:
    """Settings of the search: few calls, much reuse (``pg`` cannot reuse)."""
    reuse = plan.method != "pg"
    return SoftQSettings(
        method=plan.method,
        steps=plan.steps,
        batch_size=32,
        learning_rate=2e-3,
        polyak=0.05,
        reward_scale=5.0 if reuse else 50.0,
        value_weight=0.5 if reuse else 0.0,
        entropy_weight=0.02,
        write_every=5 if reuse else 1,
        written=plan.written,
        memory=5000 if reuse else 0,
        budget=plan.calls,
        model=GPTSettings(layers=1),
    )


def objective(
    plan: DesignSettings,
    directory: Path,
    stop: StopRequest | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Reward:
    """The reward that ``plan`` describes; simulated values are kept in ``directory``."""
    from mlsim.repr.soft_q.peptide_rewards import amphipathic_moment, charge, scaled, weighted, window

    terms: list[Reward] = []
    if plan.charge is not None:
        terms.append(window(lambda s: float(charge(s)), *plan.charge, _CHARGE_SLOPE))
    if plan.moment is not None:
        terms.append(scaled(lambda texts: [amphipathic_moment(s) for s in texts], 0.0, plan.moment))
    if plan.motif is not None:
        terms.append(_containing(plan.motif))
    if plan.simulate is not None:
        assert plan.worst is not None
        assert plan.best is not None
        simulated = SimulatedProperty(plan.simulate, directory / PROPERTIES, stop, progress)
        terms.append(scaled(simulated, plan.worst, plan.best))
    return weighted(terms, [1.0] * len(terms))


def _containing(motif: str) -> Reward:
    def reward(sequences: Sequence[str]) -> list[float]:
        return [100.0 * (motif in s) for s in sequences]

    return reward
