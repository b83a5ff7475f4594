"""Settings of a search: which loss, on which data, how long, how sharp."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mlsim.repr.soft_q.policy import GPTSettings
from mlsim.repr.soft_q.rewards import Shaping
from mlsim.settings import Settings

Method = Literal["vanilla", "single", "multi", "combined", "mle", "pg", "mle+pg"]


class SoftQSettings(Settings):
    """Everything that decides a search besides alphabet, reward and given sequences.

    Attributes
    ----------
    method
        ``vanilla``, ``single``, ``multi``, ``combined``: path consistencies (:mod:`mlsim.repr.soft_q.path_losses`);
        ``mle``: imitate the given sequences; ``pg``: policy gradient on own ones; ``mle+pg``: the sum of both.
    mixing
        For path consistencies: learn from given sequences and memory (``off``), from freshly written ones (``on``),
        or from both, half and half (``mixed``).
    steps, batch_size, learning_rate, clip_norm
        Gradient steps of Adam, sequences per step and part, step size, largest norm of a gradient.
    polyak
        Share of the network that the target takes over in every step.
    reward_low, reward_high, reward_scale
        The raw rewards' range and what it is mapped to, see :class:`~mlsim.repr.soft_q.rewards.Shaping`.
    value_weight
        Weight of the value gradient; 0 is the published method.
    entropy_weight
        Entropy bonus of the policy gradient.
    imitate_steps
        First steps, in which the likelihood of the given sequences is raised; the target then takes the network over.
    warmup_steps
        Steps with given sequences only before own ones are written (of ``mle`` for ``mle+pg``).
    write_every, written
        Own sequences are written in every so many steps, this many at once (``batch_size`` if not given).
    memory
        Own sequences that are kept for off-policy learning; 0 forgets them after their step.
    top_k
        Write with the k best actions of each position; all if not given.
    budget
        Stop at so many evaluations of the reward; no limit if not given.
    model
        Size of the language model.
    """

    method: Method = "multi"
    mixing: Literal["off", "on", "mixed"] = "mixed"
    steps: int = Field(1500, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    clip_norm: float = Field(100.0, gt=0)
    polyak: float = Field(1e-3, gt=0, le=1)
    reward_low: float = 0.0
    reward_high: float = 100.0
    reward_scale: float = Field(50.0, gt=0)
    value_weight: float = Field(0.5, ge=0)
    entropy_weight: float = Field(0.01, ge=0)
    imitate_steps: int = Field(0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    write_every: int = Field(1, ge=1)
    written: int | None = Field(None, ge=1)
    memory: int = Field(0, ge=0)
    top_k: int | None = Field(None, ge=1)
    budget: int | None = Field(None, ge=1)
    model: GPTSettings = GPTSettings()

    @model_validator(mode="after")
    def _consistent(self) -> SoftQSettings:
        if self.reward_low >= self.reward_high:
            raise ValueError(f"expected reward_low < reward_high, got {self.reward_low} and {self.reward_high}")
        if self.method == "pg" and self.write_every > 1:
            raise ValueError("'pg' learns from what it has just written: expected write_every 1")
        return self

    @property
    def shaping(self) -> Shaping:
        """Map of raw rewards."""
        return Shaping(self.reward_low, self.reward_high, self.reward_scale)

    @property
    def writes(self) -> bool:
        """Whether the policy's own sequences are used."""
        return self.method != "mle" and not (self.method in CONSISTENCIES and self.mixing == "off")

    @property
    def reads(self) -> bool:
        """Whether given sequences are used."""
        return self.method != "pg" and not (self.method in CONSISTENCIES and self.mixing == "on")


CONSISTENCIES = ("vanilla", "single", "multi", "combined")
