"""Masked-language-model pre-training, the baseline that question answering is compared with.

RoBERTa's recipe: 15 % of the tokens are chosen; of these 80 % become ``<mask>``, 10 % a random token, 10 % stay; the
model predicts the chosen ones (Liu et al. 2019, arXiv:1907.11692). Masks are drawn anew at every step. It sees the same
passages, and as many steps, as the question-answering models, but no questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForMaskedLM

from mlsim.repr.quip.biencoder import longest_input
from mlsim.repr.quip.learning.passages import Passage
from mlsim.repr.quip.tokenizer import SPECIAL, number_of, tokenize

CHOSEN, MASKED, REPLACED = 0.15, 0.8, 0.1


class MaskedObjective:
    """Predicting masked tokens: items are passages.

    Attributes
    ----------
    module : transformers.RobertaForMaskedLM
        Its ``roberta`` is the encoder.
    """

    def __init__(self, config: RobertaConfig, tokenizer: Tokenizer, passages: Sequence[Passage], seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module: nn.Module = RobertaForMaskedLM(config)
        self.tokenizer = tokenizer
        self.passages = passages
        self.longest = longest_input(config)
        self.vocabulary = int(config.vocab_size)

    def __len__(self) -> int:
        return len(self.passages)

    def loss(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Cross-entropy of the chosen tokens of the passages ``rows``."""
        tokens = tokenize(self.tokenizer, [self.passages[k].text for k in rows], self.longest)
        chosen = tokens.content.numpy() & (rng.random(tokens.content.shape) < CHOSEN)
        fate = rng.random(chosen.shape)
        ids = tokens.ids.numpy().copy()
        random = rng.integers(len(SPECIAL), self.vocabulary, chosen.shape)
        ids[chosen & (fate < MASKED)] = number_of(self.tokenizer, "<mask>")
        swapped = chosen & (fate >= MASKED) & (fate < MASKED + REPLACED)
        ids[swapped] = random[swapped]
        labels = torch.where(torch.from_numpy(chosen), tokens.ids, -100)
        out = self.module(input_ids=torch.from_numpy(ids), attention_mask=tokens.mask.long(), labels=labels)
        loss: Tensor = out.loss
        return loss
