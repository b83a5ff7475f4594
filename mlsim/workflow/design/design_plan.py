"""What ``mlsim design`` searches for: settings that are saved, and the objective that they describe.

    reward = weighted mean of the asked terms, each from 0 to 100

Free terms are functions of the sequence (charge, amphipathic moment, motif). The expensive one is a property from a
simulation of the peptide by this package. ``mlsim.repr`` searches, ``mlsim.workflow`` simulates; they meet here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from mlsim.repr.soft_q.alphabet import AMINO_ACIDS, Alphabet
from mlsim.repr.soft_q.policy import GPTSettings
from mlsim.repr.soft_q.rewards import Reward
from mlsim.repr.soft_q.search import CHECKPOINT
from mlsim.repr.soft_q.settings import SoftQSettings
from mlsim.settings import Settings
from mlsim.starts import Layout
from mlsim.workflow.design.peptide_property import CACHE, PropertySettings, SimulatedProperty

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


class DesignSettings(Settings):
    """A search for sequences.

    Attributes
    ----------
    letters, shortest, longest
        Sequences that are allowed.
    charge
        Wanted interval of the net charge, e.
    moment
        Amphipathic moment (helix) that earns the full reward.
    motif
        Letters that must stand side by side.
    simulate, worst, best
        Simulated property, and its values that earn 0 and 100.
    method, calls, steps, written, given
        See :class:`~mlsim.repr.soft_q.settings.SoftQSettings`; ``calls`` is its budget.
    count
        Designs that are reported.
    seed
        Root seed.
    """

    letters: str = AMINO_ACIDS
    shortest: int = Field(12, ge=1, le=100)
    longest: int = Field(12, ge=1, le=100)
    charge: tuple[float, float] | None = None
    moment: float | None = Field(None, gt=0)
    motif: str | None = None
    simulate: PropertySettings | None = None
    worst: float | None = None
    best: float | None = None
    method: Literal["multi", "combined", "single", "vanilla", "pg"] = "multi"
    calls: int = Field(2000, ge=1)
    steps: int = Field(1000, ge=1)
    written: int = Field(16, ge=1)
    given: tuple[str, ...] = ()
    count: int = Field(20, ge=1)
    seed: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DesignSettings:
        if not (self.charge or self.moment or self.motif or self.simulate):
            raise ValueError("nothing is asked for: expected at least one of charge, moment, motif, simulate")
        if self.simulate and (self.worst is None or self.best is None or self.worst == self.best):
            raise ValueError("a simulated property needs two different values: 'worst' (reward 0) and 'best' (100)")
        if self.motif and (set(self.motif) - set(self.letters) or len(self.motif) > self.longest):
            raise ValueError(f"motif '{self.motif}' cannot be written with these letters and lengths")
        if set(self.letters) - set(AMINO_ACIDS):
            raise ValueError(f"letters: expected some of {AMINO_ACIDS}, got '{self.letters}'")
        return self

    @property
    def alphabet(self) -> Alphabet:
        """Allowed sequences."""
        return Alphabet(self.letters, self.shortest, self.longest)

    @property
    def search(self) -> SoftQSettings:
        """Settings of the search: few calls, much reuse (``pg`` cannot reuse)."""
        reuse = self.method != "pg"
        return SoftQSettings(
            method=self.method,
            steps=self.steps,
            batch_size=32,
            learning_rate=2e-3,
            polyak=0.05,
            reward_scale=5.0 if reuse else 50.0,
            value_weight=0.5 if reuse else 0.0,
            entropy_weight=0.02,
            write_every=5 if reuse else 1,
            written=self.written,
            memory=5000 if reuse else 0,
            budget=self.calls,
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
