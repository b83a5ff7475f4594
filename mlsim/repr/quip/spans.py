"""From scores of first and last tokens to answers.

    score(i, j) = start_i + end_j,     i <= j < i + longest,  i and j in one passage

For every first token the best last token is found (a sliding maximum, exact), the spans are ranked, and a span that
overlaps a better one is dropped; the first of the list is the maximum over all spans. The paper multiplies
probabilities, which is the same for logarithms, and allows 17 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Longest answer in tokens.
LONGEST = 17


@dataclass(frozen=True)
class Span:
    """Tokens ``first`` to ``last`` (inclusive) and their score."""

    first: int
    last: int
    score: float


def best_spans(
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    passage: NDArray[np.integer],
    top_k: int,
    longest: int = LONGEST,
) -> list[Span]:
    """The ``top_k`` best spans that do not overlap, best first.

    Parameters
    ----------
    start, end : float arrays [n]
        Scores; ``-inf`` where an answer may not start or end.
    passage : int array [n]
        Passage of each token; tokens of a passage are contiguous.
    top_k : int
    longest : int
        Most tokens of an answer.

    Returns
    -------
    list of Span
        Fewer than ``top_k`` if there are no more finite ones.
    """
    n = len(start)
    best = np.array(end, dtype=np.float32)
    length = np.zeros(n, dtype=np.int64)
    for shift in range(1, min(longest, n)):
        moved = np.where(passage[shift:] == passage[:-shift], end[shift:], -np.inf)
        better = moved > best[:-shift]
        best[:-shift][better] = moved[better]
        length[:-shift][better] = shift
    score = best + start
    found: list[Span] = []
    asked = min(n, 4 * top_k * longest)  # enough, unless many overlap: then all are ranked
    while True:
        order = np.argpartition(-score, asked - 1)[:asked]
        order = order[np.argsort(-score[order], kind="stable")]
        found = _without_overlaps(order, length, score, top_k)
        if len(found) == top_k or asked == n:
            return found
        asked = n


def _without_overlaps(
    order: NDArray[np.int64], length: NDArray[np.int64], score: NDArray[np.floating], top_k: int
) -> list[Span]:
    found: list[Span] = []
    for first in order:
        if len(found) == top_k or not np.isfinite(score[first]):
            break
        last = int(first + length[first])
        if all(last < s.first or first > s.last for s in found):
            found.append(Span(int(first), last, float(score[first])))
    return found
