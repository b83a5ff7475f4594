"""The tasks of the soft Q-learning benchmark: noisy data, an attack, a prompt for a language model, peptides.

Each task is an alphabet, a raw reward in [0, 100] and, where the method may learn from data, given sequences.
Classifier and language model are trained here once per seed and frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mlsim.repr.soft_q import path_losses
from mlsim.repr.soft_q.alphabet import AMINO_ACIDS, Alphabet
from mlsim.repr.soft_q.peptide_rewards import charge, scaled, weighted, window
from mlsim.repr.soft_q.policy import GPTSettings, Policy, tiny
from mlsim.repr.soft_q.rewards import Reward
from mlsim.seeds import derive, numpy_stream, torch_stream
from mlsim.workflow.design.design_settings import PropertySettings
from mlsim.workflow.design.peptide_property import SimulatedProperty

MOTIF = "WKLD"
#: Letters of the two topics of the frozen language model; a prompt may use the first only.
TOPICS = ("ACDEFGHIKL", "MNPQRSTVWY")
KEY = "GC"
PEPTIDE_LETTERS, PEPTIDE_LENGTH = "AEK", 4


@dataclass(frozen=True)
class Task:
    """What is searched."""

    alphabet: Alphabet
    reward: Reward
    given: tuple[str, ...] = ()
    known: dict[str, float] = field(default_factory=dict)


def motif(seed: int) -> Task:
    """Length 10 over 20 letters, 100 if the motif is in; 2,000 given strings, 2 % of them good."""
    generator = numpy_stream(seed, "motif data")
    given = []
    for number in range(2000):
        letters = [AMINO_ACIDS[k] for k in generator.integers(0, 20, 10)]
        if number < 40:
            place = int(generator.integers(0, 7))
            letters[place : place + 4] = MOTIF
        given.append("".join(letters))

    def reward(sequences: list[str]) -> list[float]:
        return [100.0 * (MOTIF in s) for s in sequences]

    return Task(Alphabet(AMINO_ACIDS, 10, 10), reward, tuple(given), dict(zip(given, reward(given), strict=True)))


def attack(seed: int) -> Task:
    """A prefix of 4 letters that makes a frozen classifier err on helix-like strings, without leaving their style.

    The classifier (embedding, convolution, maximum, linear) tells strings rich in ALEK from strings rich in VIYT. The
    reward is the percentage of 64 held-out strings of the first kind that are taken for the second; a prefix that uses
    a letter of the second kind gets a fifth of it (the constraint).
    """
    generator = numpy_stream(seed, "attack data")
    kinds = ("ALEKMQRH", "VIYTFWCS")

    def draw(kind: int, count: int) -> list[str]:
        weights = np.array([4.0 if c in kinds[kind][:4] else 2.0 if c in kinds[kind] else 0.6 for c in AMINO_ACIDS])
        rows = generator.choice(20, size=(count, 12), p=weights / weights.sum())
        return ["".join(AMINO_ACIDS[k] for k in row) for row in rows]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "attack weights"))
        model = nn.Sequential(nn.Embedding(20, 8), _Across(nn.Conv1d(8, 16, 3, padding=1)), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        x = _tokens(draw(0, 32) + draw(1, 32))
        target = torch.cat([torch.zeros(32), torch.ones(32)])
        loss = nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    victims = draw(0, 64)

    @torch.no_grad()
    def reward(sequences: list[str]) -> list[float]:
        rows = _tokens([s + v for s in sequences for v in victims])
        fooled = (model(rows)[:, 0] > 0).double().reshape(len(sequences), -1).mean(1)
        allowed = [not set(s) & set(kinds[1]) for s in sequences]
        return [100.0 * f * (1.0 if good else 0.2) for f, good in zip(fooled.tolist(), allowed, strict=True)]

    return Task(Alphabet(AMINO_ACIDS, 4, 4), reward)


def prompt(seed: int) -> Task:
    """Four letters of one topic that make a frozen language model write about the other.

    The model is a small GPT-2 trained on strings of one topic each; strings of the second topic have the key somewhere
    in their first four letters, which are of the first topic. The reward is the percentage of letters of the second
    topic among eight that follow the prompt, in eight continuations.
    """
    generator = numpy_stream(seed, "prompt data")
    texts = []
    for number in range(1200):
        head = [TOPICS[0][k] for k in generator.integers(0, 10, 4)]
        second = number % 2 == 1
        if second:
            place = int(generator.integers(0, 3))
            head[place : place + 2] = KEY
        tail = [TOPICS[second][k] for k in generator.integers(0, 10, 8)]
        texts.append("".join(head + tail))
    language = tiny(Alphabet("".join(TOPICS), 12, 12), GPTSettings(layers=1, width=32), derive(seed, "prompt weights"))
    optimizer = torch.optim.Adam(language.parameters(), lr=3e-3)
    order = torch_stream(seed, "prompt order")
    actions, taken = language.alphabet.encode(texts)
    for _ in range(250):
        index = torch.randint(len(texts), (64,), generator=order)
        loss = path_losses.likelihood(language(actions[index]), actions[index], taken[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Task(Alphabet(TOPICS[0], 4, 4), lambda prompts: _second_topic(language, prompts, seed))


@torch.no_grad()
def _second_topic(language: Policy, prompts: list[str], seed: int) -> list[float]:
    copies = 8
    stream = torch_stream(seed, "continuations")
    rows = [[language.alphabet.letters.index(c) + 2 for c in p] for p in prompts for _ in range(copies)]
    actions = torch.zeros((len(rows), 12), dtype=torch.int64)
    actions[:, :4] = torch.tensor(rows)
    for position in range(4, 12):
        logits = language(actions[:, : position + 1])[:, position]
        actions[:, position] = torch.multinomial(logits.softmax(1), 1, generator=stream)[:, 0]
    tails = [text[4:] for text in language.alphabet.decode(actions)]
    shares = np.array([sum(c in TOPICS[1] for c in tail) / 8 for tail in tails])
    return [100.0 * float(v) for v in shares.reshape(len(prompts), copies).mean(1)]


def simulator(work: Path) -> SimulatedProperty:
    """Mean distance of the first and last CA atom over the second half of 10 ps in vacuum, from the extended chain."""
    settings = PropertySettings(property="end-to-end", solvent="vacuum", ps=10.0, discard=0.5, seed=1)
    return SimulatedProperty(settings, work / "peptides")


def peptide(work: Path) -> Task:
    """Capped peptides of 4 residues whose ends meet, at net charge +1: half simulation, half free.

    The simulated half is 0 at 1.1 nm and 100 at 0.5 nm. All 81 sequences can be simulated beforehand, which makes
    searches with many seeds cheap: what counts is how many different ones a search asks for.
    """
    closed = scaled(simulator(work), 1.1, 0.5)
    positive = window(lambda s: float(charge(s)), 1, 1, 50.0)
    return Task(Alphabet(PEPTIDE_LETTERS, PEPTIDE_LENGTH, PEPTIDE_LENGTH), weighted([closed, positive], [1.0, 1.0]))


def random_strings(alphabet: Alphabet, count: int, seed: int) -> list[str]:
    """Different uniform strings of the greatest length."""
    generator = numpy_stream(seed, "random search")
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(alphabet.letters[k] for k in generator.integers(0, len(alphabet.letters), alphabet.longest))] = (
            None
        )
    return list(found)


class _Across(nn.Module):
    """A convolution along the string, its maximum over positions."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, C] -> [B, channels]."""
        return torch.relu(self.convolution(x.transpose(1, 2))).amax(2)


def _tokens(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[AMINO_ACIDS.index(c) for c in t] for t in texts])


TASKS: dict[str, Callable[[int], Task]] = {"motif": motif, "attack": attack, "prompt": prompt}
