"""How well questions are answered: exact match in a given passage, recall in a library.

An answer counts only if its first and last character are right (SQuAD's exact match without its normalisation of
articles and punctuation, which template facts do not need).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlsim.errors import InputError
from mlsim.repr.quip.learning.cross_encoder import CrossEncoder
from mlsim.repr.quip.learning.passages import Passage, QuestionAnswer
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.spans import best_spans
from mlsim.repr.quip.tasks.phrase_index import Answer
from mlsim.repr.quip.tokenizer import tokenize


@dataclass(frozen=True)
class Recall:
    """Shares of questions: answer at rank one, answer among all that were returned, its passage among them."""

    first: float
    answer: float
    passage: float


def exact_match(encoder: QuipEncoder, passages: Sequence[Passage]) -> float:
    """Share of questions whose best span in their own passage is the answer."""
    hits = []
    for passage, states in zip(passages, encoder.token_states([p.text for p in passages]), strict=True):
        if not passage.questions:
            continue
        start, end = encoder.question_vectors([q.question for q in passage.questions])
        for k, q in enumerate(passage.questions):
            hits.append(_is_answer(states.vectors @ start[k], states.vectors @ end[k], states.offsets, q))
    return _share(hits)


@torch.no_grad()
def exact_match_cross(cross: CrossEncoder, tokenizer: Tokenizer, passages: Sequence[Passage]) -> float:
    """The same for a cross-encoder."""
    hits = []
    for passage in passages:
        if not passage.questions:
            continue
        tokens = tokenize(tokenizer, [(q.question, passage.text) for q in passage.questions], cross.longest)
        log_p = cross.log_probabilities(tokens).numpy()
        for k, q in enumerate(passage.questions):
            hits.append(_is_answer(log_p[0, k], log_p[1, k], tokens.offsets[k], q))
    return _share(hits)


def recall(found: Sequence[Sequence[Answer]], asked: Sequence[tuple[QuestionAnswer, int]]) -> Recall:
    """Compare what an index returned with (question and answer, number of its passage)."""
    right = [
        [a.number == k and a.start == q.start and a.text == q.answer for a in answers]
        for (q, k), answers in zip(asked, found, strict=True)
    ]
    passage = [any(a.number == k for a in answers) for (_, k), answers in zip(asked, found, strict=True)]
    return Recall(_share([bool(r) and r[0] for r in right]), _share([any(r) for r in right]), _share(passage))


def _is_answer(start: NDArray, end: NDArray, offsets: NDArray[np.int64], q: QuestionAnswer) -> bool:
    spans = best_spans(start, end, np.zeros(len(start), dtype=np.int64), 1)
    if not spans:
        return False
    begin, stop = offsets[spans[0].first, 0], offsets[spans[0].last, 1]
    return bool(begin == q.start and stop == q.start + len(q.answer))


def _share(hits: Sequence[bool]) -> float:
    if not hits:
        raise InputError("score: expected passages with questions, got none")
    return float(np.mean(hits))
