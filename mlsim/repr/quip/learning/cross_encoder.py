"""The cross-encoder: question and passage go through RoBERTa together, two numbers per token come out.

    p(start = i | passage, question) = softmax_i  w_start . r(question, passage)_i + b_start       same for the end

It sees both at once and so answers better than a bi-encoder of its size, but must read every passage anew for every
question. Its use here is as a teacher: ``soft_labels`` keeps, per question, the ``keep`` likeliest first and last
characters, from which a bi-encoder learns (Jia, Lewis, Zettlemoyer 2021, section 3.3; eight are kept there).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from mlsim.repr.quip.biencoder import divergence, fresh_roberta, longest_input
from mlsim.repr.quip.learning.labels import Label, targets
from mlsim.repr.quip.learning.passages import Passage
from mlsim.repr.quip.tokenizer import Tokens, tokenize


class CrossEncoder(nn.Module):
    """RoBERTa with a start and an end score per token."""

    def __init__(self, roberta: RobertaModel) -> None:
        super().__init__()
        self.roberta = roberta
        self.scores = nn.Linear(roberta.config.hidden_size, 2)

    @classmethod
    def fresh(cls, config: RobertaConfig, seed: int) -> CrossEncoder:
        """Random weights from ``seed``."""
        roberta = fresh_roberta(config, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            return cls(roberta)

    @property
    def longest(self) -> int:
        """Most tokens of question and passage together."""
        return longest_input(self.roberta.config)

    def log_probabilities(self, tokens: Tokens) -> Tensor:
        """Log-probabilities [2, b, t] of start and end; ``-inf`` outside the passage."""
        states = self.roberta(input_ids=tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
        logits = self.scores(states).permute(2, 0, 1).masked_fill(~tokens.content, -torch.inf)
        return torch.log_softmax(logits, dim=-1)


class CrossObjective:
    """Reading with labels: items are questions."""

    def __init__(
        self,
        module: CrossEncoder,
        tokenizer: Tokenizer,
        passages: Sequence[Passage],
        labels: Sequence[Sequence[Label]],
    ) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.items = [
            ((q.question, p.text), label)
            for p, own in zip(passages, labels, strict=True)
            for q, label in zip(p.questions, own, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def loss(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Divergence from the labels of the questions ``rows``."""
        chosen = [self.items[k] for k in rows]
        device = self.module.scores.weight.device
        tokens = tokenize(self.tokenizer, [pair for pair, _ in chosen], self.module.longest).to(device)
        owner = torch.arange(len(chosen), device=device)
        return divergence(self.module.log_probabilities(tokens), *targets(tokens, [x for _, x in chosen], owner))


@torch.no_grad()
def soft_labels(
    teacher: CrossEncoder, tokenizer: Tokenizer, passages: Sequence[Passage], keep: int = 8, batch_size: int = 64
) -> list[tuple[Label, ...]]:
    """What the teacher thinks of every question: its ``keep`` likeliest first and last characters, scaled to one."""
    pairs = [(q.question, p.text) for p in passages for q in p.questions]
    device = teacher.scores.weight.device
    found: list[Label] = []
    for k in range(0, len(pairs), batch_size):
        tokens = tokenize(tokenizer, pairs[k : k + batch_size], teacher.longest)
        p = teacher.log_probabilities(tokens.to(device)).exp()
        best, where = p.topk(min(keep, p.shape[2]), dim=-1)
        best = best / best.sum(-1, keepdim=True)
        for row in range(p.shape[1]):
            chars = tokens.offsets[row][where[:, row].cpu().numpy()]
            first, last = best[:, row].tolist()
            found.append(
                Label(tuple(chars[0, :, 0].tolist()), tuple(first), tuple((chars[1, :, 1] - 1).tolist()), tuple(last))
            )
    out, k = [], 0
    for passage in passages:
        out.append(tuple(found[k : k + len(passage.questions)]))
        k += len(passage.questions)
    return out
