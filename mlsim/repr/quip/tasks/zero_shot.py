"""Classification without examples: which of several questions does the text answer best?

    S(x, y) = max_i r(x)_i . s_y  +  max_i r(x)_i . e_y          s_y, e_y: vectors of the question of class y
    prediction = argmax_y  S(x, y) - C_y,                        C_y = mean of S(w, y) over content-free words w

The constant C_y removes what a question scores on any text ("Why is it bad ?" against "Why is it good ?"). The
rationale is the best short span for the predicted class: what in the text answers the question (Jia et al. 2021,
section 4.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.spans import best_spans

#: The paper's words without content.
CONTENT_FREE = ("the", "be", "to", "of", "and", "a", "in", "that", "have", "I")
#: Longest rationale in tokens.
RATIONALE = 5


@dataclass(frozen=True)
class Verdict:
    """Class of a text, why, and how all classes scored.

    Attributes
    ----------
    label : str
    rationale : str
        Phrase of the text that answers the class's question best.
    scores : dict
        Calibrated score per class.
    """

    label: str
    rationale: str
    scores: dict[str, float]


def classify(
    encoder: QuipEncoder,
    texts: Sequence[str],
    questions: Mapping[str, str],
    calibration: Sequence[str] = CONTENT_FREE,
) -> list[Verdict]:
    """Classify texts by one question per class.

    Parameters
    ----------
    texts : sequence of str
    questions : mapping
        Class -> question, for instance ``{"stable": "Why is it stable?", "unstable": "Why is it unstable?"}``.
    calibration : sequence of str
        Content-free texts; none switches calibration off.

    Raises
    ------
    InputError
        With fewer than two classes or an empty text.
    """
    if len(questions) < 2:
        raise InputError(f"zero-shot: expected a question for each of at least two classes, got {len(questions)}")
    labels = list(questions)
    start, end = encoder.question_vectors(list(questions.values()))
    shift = np.zeros(len(labels))
    if calibration:
        shift = np.mean([_scores(s.vectors, start, end) for s in encoder.token_states(calibration)], axis=0)
    verdicts = []
    for text, states in zip(texts, encoder.token_states(texts), strict=True):
        scores = _scores(states.vectors, start, end) - shift
        best = int(scores.argmax())
        one = np.zeros(len(states.vectors), dtype=np.int64)
        span = best_spans(states.vectors @ start[best], states.vectors @ end[best], one, 1, RATIONALE)[0]
        reason = text[states.offsets[span.first, 0] : states.offsets[span.last, 1]]
        verdicts.append(Verdict(labels[best], reason, dict(zip(labels, scores.tolist(), strict=True))))
    return verdicts


def _scores(vectors: NDArray, start: NDArray, end: NDArray) -> NDArray:
    """S [classes] of one text."""
    total: NDArray = (vectors @ start.T).max(0) + (vectors @ end.T).max(0)
    return total
