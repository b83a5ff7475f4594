"""The search: write sequences, have them rewarded, learn from them and from given ones.

In every step the policy draws sequences from itself (on-policy), takes others from the given data and from its memory
(off-policy), and lowers the mean of the loss on both. A target network follows by

    w' <- (1 - tau) w' + tau w

Symbols: w' ``target``, tau ``polyak``.

The state (weights, target, Adam's moments, random generator, memory, all known rewards, log) is written every
``checkpoint_every`` steps and after a stop, and a resumed search continues as if it had not stopped. Where a reward
is expensive nothing that was paid for is lost.

Reference: Guo et al., Findings of EMNLP 2022 (arXiv:2106.07704), with on- and off-policy updates mixed as there.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlsim.errors import InputError, UnphysicalError
from mlsim.fitting.state_file import load_state, save_state
from mlsim.records import digest_of
from mlsim.repr.soft_q import path_losses
from mlsim.repr.soft_q.alphabet import Alphabet
from mlsim.repr.soft_q.diversity import unique_fraction
from mlsim.repr.soft_q.policy import tiny
from mlsim.repr.soft_q.rewards import Remembered, Reward
from mlsim.repr.soft_q.settings import CONSISTENCIES, SoftQSettings
from mlsim.seeds import derive, torch_stream

CHECKPOINT = "search.pt"
#: Share of the old baseline of the policy gradient that is kept in a step.
BASELINE_DECAY = 0.95


class SoftQ:
    """A search for sequences that a reward likes.

    Parameters
    ----------
    alphabet : Alphabet
    reward : callable, list of str -> list of float
        Raw reward; higher is better.
    settings : SoftQSettings
    given : sequence of str
        Sequences to learn from besides own ones; some may be bad.
    known : dict of str to float, optional
        Rewards known beforehand (of given sequences, for example); they cost no call.
    seed : int

    Attributes
    ----------
    policy : Policy
    history : list of dict
        One row per logged step: ``step``, ``loss``, ``calls``, and for own sequences ``reward`` (raw mean), ``best``,
        ``unique`` (fraction) and ``entropy`` (nats per position).

    Raises
    ------
    InputError
        If the method needs given sequences and there are none, or they do not fit the alphabet.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        reward: Reward,
        settings: SoftQSettings,
        given: Sequence[str] = (),
        known: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        if settings.imitate_steps and not (given and settings.reads):
            raise InputError("imitate_steps: there are no given sequences to imitate, or the method does not read them")
        if settings.reads and not given and settings.memory == 0:
            raise InputError(f"method '{settings.method}' learns from given sequences: give some or choose mixing 'on'")
        self.alphabet, self.settings, self.seed = alphabet, settings, seed
        self.reward = Remembered(reward, dict(known or {}))
        self.given = list(given)
        alphabet.encode(self.given)  # fail at the door
        self.memory: list[str] = []
        self.policy = tiny(alphabet, settings.model, derive(seed, "soft_q.weights"))
        self.target = copy.deepcopy(self.policy).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=settings.learning_rate)
        self.generator = torch_stream(seed, "soft_q.search")
        self.step = 0
        self.baseline: float | None = None
        self.history: list[dict[str, float]] = []

    @property
    def identity(self) -> str:
        """Digest of what the search is, without its length: a finished one may be prolonged."""
        settings = self.settings.model_dump(mode="json", exclude={"steps", "budget"})
        text = json.dumps([settings, self.alphabet.letters, self.alphabet.shortest, self.alphabet.longest, self.seed])
        return digest_of(text, json.dumps(self.given))

    @property
    def finished(self) -> bool:
        """Whether all steps are done or the budget is used up."""
        budget = self.settings.budget
        return self.step >= self.settings.steps or (budget is not None and self.reward.calls >= budget)

    def fit(
        self,
        directory: Path | None = None,
        *,
        checkpoint_every: int = 100,
        log_every: int = 25,
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        """Search until :attr:`finished` or ``stop()``.

        Parameters
        ----------
        directory : Path, optional
            Where the checkpoint lives; a checkpoint that is there is continued from.
        progress : callable, optional
            ``progress(step, steps)`` after every step.
        stop : callable, optional
            Asked after every step.

        Raises
        ------
        UnphysicalError
            If the loss is no number.
        CheckpointError
            If the checkpoint belongs to another search.
        """
        path = None if directory is None else directory / CHECKPOINT
        if path is not None and path.is_file():
            self.restore(load_state(path, self.identity))
        while not self.finished:
            row = self.advance()
            if self.step % log_every == 0 or self.finished:
                self.history.append(row)
            if path is not None and self.step % checkpoint_every == 0:
                save_state(path, self.identity, self.state())
            if progress is not None:
                progress(self.step, self.settings.steps)
            if stop is not None and stop():
                break
        if path is not None:
            save_state(path, self.identity, self.state())

    def advance(self) -> dict[str, float]:
        """One step; returns its row of the log."""
        row: dict[str, float] = {}
        own, others = self._write(), self._draw()
        if own or others:
            loss = self._loss(own, others, row)
            self._descend(loss)
            row["loss"] = loss.item()
        self.step += 1
        if self.step == self.settings.imitate_steps:
            self.target.load_state_dict(self.policy.state_dict())
        return {"step": float(self.step), "calls": float(self.reward.calls), **row}

    def sample(self, count: int, generator: torch.Generator, top_k: int | None = None) -> list[str]:
        """``count`` sequences of the present policy."""
        return self.alphabet.decode(self.policy.sample(count, generator, top_k)[0])

    def log_probability(self, sequences: list[str]) -> list[float]:
        """Log probability of each sequence under the present policy."""
        with torch.no_grad():
            return [float(p) for p in self.policy.log_prob(*self.alphabet.encode(sequences))]

    # ---- parts of a step ----

    def _write(self) -> list[str]:
        """Own sequences of this step; those that the budget cannot pay for are dropped."""
        settings = self.settings
        started = max(settings.warmup_steps, settings.imitate_steps)
        if not settings.writes or self.step < started or self.step % settings.write_every:
            return []
        sequences = self.sample(settings.written or settings.batch_size, self.generator, settings.top_k)
        if settings.budget is not None:
            paid = set(self.reward.unknown(sequences)[: settings.budget - self.reward.calls])
            sequences = [s for s in sequences if s in paid or s in self.reward.known]
        if settings.memory:
            self.memory = (self.memory + sequences)[-settings.memory :]
        return sequences

    def _draw(self) -> list[str]:
        """Given and remembered sequences of this step."""
        pool = self.given + self.memory if self.settings.reads else []
        if not pool:
            return []
        index = torch.randint(len(pool), (self.settings.batch_size,), generator=self.generator)
        return [pool[k] for k in index.tolist()]

    def _loss(self, own: list[str], others: list[str], row: dict[str, float]) -> Tensor:
        """Loss of both kinds of sequences, from one pass through the network; logs what the own ones are like."""
        settings = self.settings
        actions, taken = self.alphabet.encode(own + others)
        actions, taken = actions.to(self.policy.allowed.device), taken.to(self.policy.allowed.device)
        logits = self.policy(actions)
        mine, theirs = slice(0, len(own)), slice(len(own), None)
        raw = self.reward(own)
        if own:
            spread = path_losses.entropy(logits[mine].detach()) * taken[mine]
            row.update(
                reward=sum(raw) / len(raw),
                best=max(raw),
                unique=unique_fraction(own),
                entropy=(spread.sum() / taken[mine].sum()).item(),
            )
        if self.step < settings.imitate_steps:
            return path_losses.likelihood(logits[theirs], actions[theirs], taken[theirs])
        parts = []
        if settings.method in CONSISTENCIES:
            reward = settings.shaping(raw + self.reward(others)).to(logits.device)
            with torch.no_grad():
                target = self.target(actions)
            for part in (mine, theirs):
                if len(actions[part]):
                    parts.append(
                        self._consistency(logits[part], target[part], actions[part], taken[part], reward[part])
                    )
            return torch.stack(parts).mean()
        if own:
            advantage = self._advantage(settings.shaping(raw)).to(logits.device)
            parts.append(
                path_losses.policy_gradient(
                    logits[mine], actions[mine], taken[mine], advantage, settings.entropy_weight
                )
            )
        if others:
            parts.append(path_losses.likelihood(logits[theirs], actions[theirs], taken[theirs]))
        return torch.stack(parts).sum()

    def _consistency(self, logits: Tensor, target: Tensor, actions: Tensor, taken: Tensor, reward: Tensor) -> Tensor:
        method, weight = self.settings.method, self.settings.value_weight
        assert method in ("vanilla", "single", "multi", "combined")
        loss = path_losses.consistency(method, logits, target, actions, taken, reward)
        return loss + weight * path_losses.value_gradient(logits, actions, taken, reward) if weight else loss

    def _advantage(self, shaped: Tensor) -> Tensor:
        """Shaped rewards less their moving mean, in units of the scale."""
        mean = shaped.mean().item()
        old = mean if self.baseline is None else self.baseline
        self.baseline = BASELINE_DECAY * old + (1 - BASELINE_DECAY) * mean
        return (shaped - self.baseline) / self.settings.reward_scale

    def _descend(self, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            raise UnphysicalError(f"the loss became {loss.item()} in step {self.step}; lower the learning rate")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.policy.parameters(), strict=True):
                slow.lerp_(fast, self.settings.polyak)

    # ---- state ----

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs."""
        return {
            "policy": self.policy.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "baseline": self.baseline,
            "memory": self.memory,
            "known": self.reward.known,
            "calls": self.reward.calls,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.policy.load_state_dict(state["policy"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.baseline = int(state["step"]), state["baseline"]
        self.memory, self.history = list(state["memory"]), list(state["history"])
        self.reward.known, self.reward.calls = dict(state["known"]), int(state["calls"])
