"""Pre-training by question answering, alone or from a teacher.

    labels = hard_labels(passages)                     answers as given
    labels = soft_labels(teacher, tokenizer, passages) what a cross-encoder thinks        (distillation)
    pretrain(BiEncoder.fresh(config, seed), tokenizer, passages, labels, settings, directory)

Both are one objective, KL(label || student), summed over start and end; a hard label is the one-hot case. All questions
of a passage are in one batch, so that it is encoded once for all of them (paper, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from mlsim.errors import InputError
from mlsim.records import digest_of_all
from mlsim.repr.quip.biencoder import BiEncoder, Negatives, divergence, log_probabilities
from mlsim.repr.quip.learning.cross_encoder import CrossEncoder, CrossObjective
from mlsim.repr.quip.learning.labels import Label, targets
from mlsim.repr.quip.learning.passages import Passage
from mlsim.repr.quip.learning.quip_loop import LoopSettings, Progress, run
from mlsim.repr.quip.tokenizer import tokenize

#: Longest question in tokens, special ones included (the paper's 50).
QUESTION_TOKENS = 50


class PretrainSettings(LoopSettings):
    """Length, optimizer, and over what the softmax of the answer's place runs."""

    negatives: Negatives = Field(default="passage")


class AnswerObjective:
    """Reading by inner products: items are passages with all their questions."""

    def __init__(
        self,
        module: BiEncoder,
        tokenizer: Tokenizer,
        passages: Sequence[Passage],
        labels: Sequence[Sequence[Label]],
        negatives: Negatives,
    ) -> None:
        self.module = module
        self.tokenizer = tokenizer
        kept = [(p, own) for p, own in zip(passages, labels, strict=True) if p.questions]
        if not kept:
            raise InputError("pre-training: expected passages with questions, got none")
        self.items = kept
        self.negatives: Negatives = negatives

    def __len__(self) -> int:
        return len(self.items)

    def loss(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Divergence from the labels of all questions of the passages ``rows``."""
        chosen = [self.items[k] for k in rows]
        device = next(self.module.parameters()).device
        tokens = tokenize(self.tokenizer, [p.text for p, _ in chosen], self.module.longest).to(device)
        words = [q.question for p, _ in chosen for q in p.questions]
        asked = tokenize(self.tokenizer, words, min(QUESTION_TOKENS, self.module.longest)).to(device)
        owner = torch.tensor([k for k, (p, _) in enumerate(chosen) for _ in p.questions], device=device)
        log_p = log_probabilities(
            self.module.states(tokens), tokens.content, self.module.questions(asked), owner, self.negatives
        )
        return divergence(log_p, *targets(tokens, [label for _, own in chosen for label in own], owner))


def pretrain(
    model: BiEncoder,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    labels: Sequence[Sequence[Label]],
    settings: PretrainSettings,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train a bi-encoder in place; resumes from ``directory`` if it holds a checkpoint of the same training.

    Parameters
    ----------
    labels : sequence of sequences of Label
        Per passage, in the order of its questions.

    Returns
    -------
    list of float
        Loss of every step.

    Raises
    ------
    InputError
        If no passage has a question.
    CheckpointError
        If the checkpoint belongs to another training.
    """
    objective = AnswerObjective(model, tokenizer, passages, labels, settings.negatives)
    return run(objective, settings, digest_of(model, tokenizer, passages, labels), directory, progress)


def fit_teacher(
    model: CrossEncoder,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    labels: Sequence[Sequence[Label]],
    settings: LoopSettings,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train a cross-encoder in place, resumable like ``pretrain``; ``settings.batch`` counts questions."""
    objective = CrossObjective(model, tokenizer, passages, labels)
    return run(objective, settings, digest_of(model, tokenizer, passages, labels), directory, progress)


def digest_of(
    model: nn.Module, tokenizer: Tokenizer, passages: Sequence[Passage], labels: Sequence[Sequence[Label]]
) -> str:
    """Digest of what a training starts from: parameters, tokenizer, passages and labels."""
    state = model.state_dict().items()
    weights = (part for name, tensor in state for part in (name, tensor.detach().cpu().contiguous().numpy()))
    texts = (repr((passage, tuple(own))) for passage, own in zip(passages, labels, strict=True))
    return digest_of_all(chain([tokenizer.to_str()], weights, texts))
