"""The soft optimum of small problems, by backward induction over all strings.

    Q(s, a) = r(s a)            if the action a ends the string
    Q(s, a) = V(s a)            otherwise,        V(s) = log sum_a exp Q(s, a)

The optimal policy writes the string x with probability exp(r(x)) / Z, Z = exp V(empty). This is the answer that every
loss of :mod:`mlsim.repr.soft_q.path_losses` must call perfect, and what a learnt policy can be compared with.

Symbols: Q values of ``table``, V(empty) ``log_partition``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlsim.errors import InputError
from mlsim.repr.soft_q.alphabet import END, FIRST_LETTER, Alphabet

#: Strings that are enumerated at most.
LARGEST = 200_000


@dataclass(frozen=True)
class SoftOptimum:
    """Q-values of every beginning of a string, and log Z."""

    alphabet: Alphabet
    table: dict[str, Tensor]
    log_partition: float

    def logits(self, actions: Tensor) -> Tensor:
        """Q-values [B, T, A] before each action int64 [B, T], in the form that a policy gives."""
        rows = []
        for row in actions:
            steps = []
            for position in range(len(row)):
                beginning = self.alphabet.decode(row[None, :position])[0]
                # behind an end nothing is taken and any finite values will do
                known = len(beginning) == position
                steps.append(self.table[beginning] if known else torch.zeros(self.alphabet.size, dtype=torch.float64))
            rows.append(torch.stack(steps))
        return torch.stack(rows)

    def probability(self, sequence: str, reward: float) -> float:
        """Probability that the optimal policy writes ``sequence``, whose shaped reward is ``reward``."""
        return math.exp(reward - self.log_partition)


def soft_optimum(alphabet: Alphabet, reward: Callable[[str], float]) -> SoftOptimum:
    """Solve the problem exactly for a shaped reward of whole strings.

    Raises
    ------
    InputError
        If there are too many strings to enumerate.
    """
    count = sum(len(alphabet.letters) ** length for length in range(alphabet.longest + 1))
    if count > LARGEST:
        raise InputError(f"soft optimum: {count} strings are too many to enumerate (at most {LARGEST})")
    allowed = alphabet.allowed()
    table: dict[str, Tensor] = {}

    def value(beginning: str) -> float:
        if len(beginning) == alphabet.longest:
            return reward(beginning)
        q = torch.full((alphabet.size,), -torch.inf, dtype=torch.float64)
        if allowed[len(beginning), END]:
            q[END] = reward(beginning)
        for k, letter in enumerate(alphabet.letters):
            q[k + FIRST_LETTER] = value(beginning + letter)
        table[beginning] = q
        return float(q.logsumexp(0))

    return SoftOptimum(alphabet, table, value(""))
