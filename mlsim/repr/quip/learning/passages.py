"""Passages with questions and answers: what question-answering pre-training learns from.

Why character offsets: a tokenizer is chosen later, and the same passage serves a 1,000-word vocabulary trained here
and RoBERTa's. ``answer == text[start : start + len(answer)]`` is checked when a passage is made, so that a wrong offset
is an error at the door and never a silently wrong label.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlsim import limits
from mlsim.errors import InputError, MissingError


@dataclass(frozen=True)
class QuestionAnswer:
    """A question whose answer stands in the passage.

    Attributes
    ----------
    question, answer : str
    start : int
        Character at which the answer begins in the passage's text.
    """

    question: str
    answer: str
    start: int


@dataclass(frozen=True)
class Passage:
    """A text and its questions.

    Raises
    ------
    InputError
        If an answer does not stand at its offset.
    """

    text: str
    questions: tuple[QuestionAnswer, ...] = ()

    def __post_init__(self) -> None:
        for q in self.questions:
            if not q.answer or self.text[q.start : q.start + len(q.answer)] != q.answer or q.start < 0:
                found = self.text[max(q.start, 0) : max(q.start, 0) + len(q.answer)]
                raise InputError(
                    f"question {q.question!r}: expected the answer {q.answer!r} at character {q.start}, found {found!r}"
                )


def read_squad(path: str | Path) -> list[Passage]:
    """Read passages from a SQuAD file (JSON: data, paragraphs, context, qas, answers); unanswerable ones are left out.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it has another form, or no answerable question.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected question-answer pairs in SQuAD's JSON form")
    try:
        content = json.loads(limits.text(path))
        passages = [_paragraph(p) for article in content["data"] for p in article["paragraphs"]]
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not in SQuAD's JSON form ({type(error).__name__}: {error})") from None
    passages = [p for p in passages if p.questions]
    if not passages:
        raise InputError(f"{path}: no answerable question in it")
    return passages


def _paragraph(entry: dict) -> Passage:
    pairs = [
        QuestionAnswer(str(qa["question"]), str(qa["answers"][0]["text"]), int(qa["answers"][0]["answer_start"]))
        for qa in entry["qas"]
        if qa.get("answers")
    ]
    return Passage(str(entry["context"]), tuple(pairs))
