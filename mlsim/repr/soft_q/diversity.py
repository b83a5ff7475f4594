"""How different the sequences of a set are: a search that writes one good string a thousand times has failed.

    unique     = |set of n strings| / n
    distance   = 1 - mean over positions p, letters c of  n_pc (n_pc - 1) / (n (n - 1))
    entropy    = - sum_x p(x) ln p(x),   p(x) the share of string x in the set

with n strings, n_pc of them with letter c at position p.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

from mlsim.errors import InputError


def unique_fraction(sequences: Sequence[str]) -> float:
    """Different strings over all strings."""
    _require(sequences)
    return len(set(sequences)) / len(sequences)


def novelty(sequences: Sequence[str], known: Collection[str]) -> float:
    """Share of strings that are not in ``known``."""
    _require(sequences)
    seen = set(known)
    return sum(s not in seen for s in sequences) / len(sequences)


def mean_distance(sequences: Sequence[str]) -> float:
    """Mean share of positions at which two of the strings differ (0 alike, 1 nothing in common).

    Over all pairs, from the counts of letters at each position; a position behind the end of a string is a letter of
    its own, and positions count up to the longest string.
    """
    _require(sequences)
    count = len(sequences)
    if count == 1:
        return 0.0
    longest = max(map(len, sequences))
    alike = 0.0
    for position in range(longest):
        letters = Counter(s[position] if position < len(s) else "" for s in sequences)
        alike += sum(n * (n - 1) for n in letters.values()) / (count * (count - 1))
    return 1.0 - alike / max(1, longest)


def set_entropy(sequences: Sequence[str]) -> float:
    """Entropy of the set's own distribution over strings, nats; log n if all n differ."""
    _require(sequences)
    shares = [n / len(sequences) for n in Counter(sequences).values()]
    return -sum(p * math.log(p) for p in shares)


def _require(sequences: Sequence[str]) -> None:
    if not sequences:
        raise InputError("diversity: expected at least one sequence, got none")
