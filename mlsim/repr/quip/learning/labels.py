"""Where an answer starts and ends: one character each (a human label) or a distribution over characters (a teacher's).

Why characters and not tokens: teacher and student may see a passage at different token positions (a cross-encoder puts
the question before it) or through different tokenizers. ``targets`` maps characters to the tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlsim.repr.quip.learning.passages import Passage, QuestionAnswer
from mlsim.repr.quip.tokenizer import Tokens


@dataclass(frozen=True)
class Label:
    """Distribution of an answer's first and last character.

    Attributes
    ----------
    first, last : tuple of int
        Characters; ``last`` is the last character itself.
    first_p, last_p : tuple of float
        Probabilities, each summing to one.
    """

    first: tuple[int, ...]
    first_p: tuple[float, ...]
    last: tuple[int, ...]
    last_p: tuple[float, ...]


def hard(question: QuestionAnswer) -> Label:
    """All probability at the given answer."""
    return Label((question.start,), (1.0,), (question.start + len(question.answer) - 1,), (1.0,))


def hard_labels(passages: Sequence[Passage]) -> list[tuple[Label, ...]]:
    """The given answers of every passage, in the order of its questions."""
    return [tuple(hard(q) for q in passage.questions) for passage in passages]


def targets(tokens: Tokens, labels: Sequence[Label], owner: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and probabilities of start and end.

    Parameters
    ----------
    tokens : Tokens
        Batch of passages (or of pairs).
    labels : sequence of Label
        One per question.
    owner : int tensor [q]
        Row of ``tokens`` that holds each question's passage.

    Returns
    -------
    indices : int64 tensor [2, q, k]
    probabilities : float32 tensor [2, q, k]
        Mass on characters that were cut off is dropped and the rest scaled up; zero rows if nothing is left.
    """
    widest = max(max(len(label.first), len(label.last)) for label in labels)
    chars = np.full((2, len(labels), widest), -1, dtype=np.int64)
    p = np.zeros(chars.shape, dtype=np.float32)
    for row, label in enumerate(labels):
        chars[0, row, : len(label.first)], p[0, row, : len(label.first)] = label.first, label.first_p
        chars[1, row, : len(label.last)], p[1, row, : len(label.last)] = label.last, label.last_p
    rows = owner.cpu().numpy()
    content = tokens.content.cpu().numpy()[rows]
    begin, end = tokens.offsets[rows, :, 0], tokens.offsets[rows, :, 1]
    inside = (begin[:, None] <= chars[..., None]) & (chars[..., None] < end[:, None]) & content[:, None]
    p *= inside.any(-1)
    total = p.sum(-1, keepdims=True)
    whole = (total > 0).all(0, keepdims=True)
    p = np.where(whole, p / np.where(total > 0, total, 1.0), 0.0).astype(np.float32)
    device = tokens.ids.device
    return torch.from_numpy(inside.argmax(-1)).to(device), torch.from_numpy(p).to(device)
