"""Few-shot tagging of phrases (named entities, roles) that starts from questions.

    p(label | token i) = softmax_label  w_label . r_i + b_label
    start:   w_label = h_start(question of label) / |h_start(question of label)|,   b = 0

A token that answers "What is a ligand?" is a ligand before a single example has been seen; examples then move the rows
(and, if wanted, the encoder). The class "O" of all other tokens has a question too, "What is a generic object?" (Jia,
Lewis, Zettlemoyer 2021, section 4.3: unit-norm rows, learning rate 2e-5, 200 epochs).

Why labels without B- and I-: the paper's two share their question, and roles of one kind do not touch. Two phrases of
one label that do touch become one.

Rows are pulled to where they began (``pull``), not to zero: with four examples the start is worth keeping.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mlsim.errors import InputError
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.tokenizer import Tokens, tokenize
from mlsim.settings import Settings

OTHER = "O"
OTHER_QUESTION = "What is a generic object?"


@dataclass(frozen=True)
class Entity:
    """Characters ``begin:end`` of a text carry ``label``."""

    begin: int
    end: int
    label: str


@dataclass(frozen=True)
class TaggedText:
    """A text and its entities.

    Raises
    ------
    InputError
        If an entity is empty or outside the text.
    """

    text: str
    entities: tuple[Entity, ...]

    def __post_init__(self) -> None:
        for e in self.entities:
            if not 0 <= e.begin < e.end <= len(self.text):
                raise InputError(f"entity {e}: expected characters within a text of {len(self.text)} characters")


class TaggerSettings(Settings):
    """How a tagger is trained.

    Attributes
    ----------
    rows : {"question", "zero"}
        Where the rows of the classifier begin.
    steps : int
        Full-batch steps of Adam.
    learning_rate, encoder_rate : float
        Of the rows, and of the encoder (0: it stays as it is, and is run once only).
    pull : float
        Weight of ``|w - w at the start|^2``.
    unit : {"word", "token"}
        What gets one label: the tokens of a word together, by their mean score, or each token by itself, which can
        split a name.
    """

    rows: Literal["question", "zero"] = "question"
    steps: int = Field(default=300, ge=0)
    learning_rate: float = Field(default=0.02, gt=0)
    encoder_rate: float = Field(default=0.0, ge=0)
    pull: float = Field(default=1e-4, ge=0)
    unit: Literal["word", "token"] = "word"


class Tagger:
    """A linear classifier of tokens on an encoder; made by ``fit``."""

    def __init__(
        self, encoder: QuipEncoder, labels: Sequence[str], weight: Tensor, bias: Tensor, unit: Literal["word", "token"]
    ) -> None:
        self.encoder = encoder
        self.labels = tuple(labels)
        self.weight, self.bias = weight, bias
        self.unit = unit

    @classmethod
    def fit(
        cls,
        encoder: QuipEncoder,
        examples: Sequence[TaggedText],
        questions: Mapping[str, str],
        settings: TaggerSettings | None = None,
    ) -> Tagger:
        """Train on ``examples``.

        Parameters
        ----------
        encoder : QuipEncoder
            Is not changed; with ``encoder_rate`` above zero a copy of it is trained.
        examples : sequence of TaggedText
            May be empty if the rows begin at questions.
        questions : mapping
            Label -> question, for instance ``{"inhibitor": "What inhibits it?"}``.
        settings : TaggerSettings, optional

        Raises
        ------
        InputError
            If an example has a label without question, or there is nothing to learn from.
        """
        settings = settings or TaggerSettings()
        labels = (OTHER, *questions)
        unknown = {e.label for x in examples for e in x.entities} - set(questions)
        if unknown:
            raise InputError(f"tagging: expected labels {', '.join(questions)}, got {', '.join(sorted(unknown))}")
        if not examples and settings.rows == "zero":
            raise InputError("tagging: expected examples, or rows that begin at questions; got neither")
        if settings.encoder_rate > 0:
            encoder = QuipEncoder(copy.deepcopy(encoder.model), encoder.tokenizer, encoder.window).to(encoder.device)
        width = encoder.dimension
        if settings.rows == "question":
            start = torch.from_numpy(encoder.question_vectors([OTHER_QUESTION, *questions.values()])[0])
            begin = nn.functional.normalize(start, dim=1)
        else:
            begin = torch.zeros(len(labels), width)
        weight = nn.Parameter(begin.clone().to(encoder.device))
        bias = nn.Parameter(torch.zeros(len(labels), device=encoder.device))
        if examples and settings.steps:
            _train(encoder, examples, labels, weight, bias, settings)
        return cls(encoder, labels, weight.detach(), bias.detach(), settings.unit)

    def predict(self, texts: Sequence[str]) -> list[TaggedText]:
        """Tag texts of any length."""
        found = []
        for text, states in zip(texts, self.encoder.token_states(texts), strict=True):
            scores = torch.from_numpy(states.vectors).to(self.weight.device) @ self.weight.T + self.bias
            if self.unit == "word":
                scores = _shared(scores, words(text, states.offsets))
            found.append(TaggedText(text, _runs(scores.argmax(1).tolist(), states.offsets, self.labels)))
        return found


def _train(
    encoder: QuipEncoder,
    examples: Sequence[TaggedText],
    labels: Sequence[str],
    weight: nn.Parameter,
    bias: nn.Parameter,
    settings: TaggerSettings,
) -> None:
    tokens = tokenize(encoder.tokenizer, [x.text for x in examples], encoder.model.longest)
    truth = torch.from_numpy(_numbers(tokens, examples, labels)).to(encoder.device)
    tokens = tokens.to(encoder.device)
    begin = weight.detach().clone()
    groups = [{"params": [weight, bias], "lr": settings.learning_rate}]
    if settings.encoder_rate > 0:
        groups.append({"params": list(encoder.model.roberta.parameters()), "lr": settings.encoder_rate})
        states = None
    else:
        with torch.no_grad():
            states = encoder.model.states(tokens)
    optimizer = torch.optim.Adam(groups)
    for _ in range(settings.steps):
        now = encoder.model.states(tokens) if states is None else states
        scores = now[tokens.content] @ weight.T + bias
        loss = nn.functional.cross_entropy(scores, truth) + settings.pull * (weight - begin).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _numbers(tokens: Tokens, examples: Sequence[TaggedText], labels: Sequence[str]) -> NDArray[np.int64]:
    """Number of the label of every token of the text, in the order of ``states[content]``."""
    out = np.zeros(tokens.content.shape, dtype=np.int64)
    for row, example in enumerate(examples):
        for e in example.entities:
            begin, end = tokens.offsets[row, :, 0], tokens.offsets[row, :, 1]
            out[row, (begin < e.end) & (end > e.begin)] = labels.index(e.label)
    return out[tokens.content.numpy()]


def words(text: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the word of every token: a gap between tokens, or a token without letter or digit, begins a new one."""
    plain = np.array([not any(c.isalnum() for c in text[a:b]) for a, b in offsets], dtype=bool)
    begins = np.ones(len(offsets), dtype=bool)
    begins[1:] = (offsets[1:, 0] > offsets[:-1, 1]) | plain[1:] | plain[:-1]
    return np.cumsum(begins) - 1


def _shared(scores: Tensor, word: NDArray[np.int64]) -> Tensor:
    """Mean score of the tokens of a word, for each of them."""
    number = torch.from_numpy(word).to(scores.device)
    total = torch.zeros(int(word[-1]) + 1, scores.shape[1], device=scores.device).index_add_(0, number, scores)
    return (total / torch.bincount(number)[:, None])[number]


def _runs(numbers: Sequence[int], offsets: NDArray[np.int64], labels: Sequence[str]) -> tuple[Entity, ...]:
    """Runs of tokens of one label as entities."""
    found: list[Entity] = []
    before = 0
    for number, (begin, end) in zip(numbers, offsets.tolist(), strict=True):
        if number and number == before:
            found[-1] = Entity(found[-1].begin, end, labels[number])
        elif number and end > begin:
            found.append(Entity(begin, end, labels[number]))
        before = number if found else 0
    return tuple(found)


@dataclass(frozen=True)
class F1:
    """Micro-averaged F1 over phrases that must agree exactly, and over characters."""

    phrases: float
    characters: float


def f1(predicted: Sequence[TaggedText], true: Sequence[TaggedText]) -> F1:
    """Compare tags of the same texts.

    Raises
    ------
    InputError
        If the texts differ.
    """
    if [x.text for x in predicted] != [x.text for x in true]:
        raise InputError("f1: expected predictions for the same texts in the same order")
    phrases = [(set(p.entities), set(t.entities)) for p, t in zip(predicted, true, strict=True)]
    return F1(_micro(phrases), _micro([(_characters(p), _characters(t)) for p, t in zip(predicted, true, strict=True)]))


def _characters(tagged: TaggedText) -> set[tuple[int, str]]:
    return {(k, e.label) for e in tagged.entities for k in range(e.begin, e.end)}


def _micro(pairs: Sequence[tuple[set, set]]) -> float:
    hits = sum(len(p & t) for p, t in pairs)
    total = sum(len(p) + len(t) for p, t in pairs)
    return 2 * hits / total if total else 1.0
