"""The bi-encoder: passages and questions go through one RoBERTa separately and meet in inner products only.

    p(start = i | passage, question) = softmax_i  r(passage)_i . h_start(r(question)_1)       same for the end

    r            ``roberta``, last hidden states          r(question)_1    the state at ``<s>``
    h_start/end  ``start``, ``end`` (``heads.QaHead``)

Because a passage is encoded without knowing the question, its token representations must say about every phrase what
could be asked about it; this is what makes them useful elsewhere (Jia, Lewis, Zettlemoyer 2021, section 3).

Why the softmax may also run over the other passages of a batch (``negatives="batch"``): the paper found it unimportant
for reading one passage; searching a library compares scores between passages, which only this trains. So the
paper's ``passage`` is the default, and ``batch`` is for indices; both are rows of ``benchmarks/repr/quip.py``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from mlsim.errors import InputError
from mlsim.repr.quip.heads import QaHead
from mlsim.repr.quip.tokenizer import SPECIAL, Tokens
from mlsim.settings import Settings

Negatives = Literal["passage", "batch"]


class Shape(Settings):
    """Size of a RoBERTa trained here.

    Attributes
    ----------
    vocabulary : int
        Tokens; the tokenizer's number.
    width, layers, attention_heads, feed_forward : int
        Of the transformer; ``width`` is the dimension of the features.
    positions : int
        Longest text in tokens, special ones included.
    dropout : float
    spread : float
        Standard deviation of fresh weights. RoBERTa's 0.02 is meant for widths of 768 and more; at 64 it leaves the
        tokens almost blind to each other at first. After 400 steps on template facts 0.1 answered 60 %, 0.02 47 %.
    """

    vocabulary: int = 1000
    width: int = 64
    layers: int = 2
    attention_heads: int = 4
    feed_forward: int = 128
    positions: int = 160
    dropout: float = 0.0
    spread: float = 0.02

    def roberta(self) -> RobertaConfig:
        """The same as transformers' configuration."""
        return RobertaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.attention_heads,
            intermediate_size=self.feed_forward,
            max_position_embeddings=self.positions + SPECIAL.index("<pad>") + 1,
            type_vocab_size=1,
            initializer_range=self.spread,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            pad_token_id=SPECIAL.index("<pad>"),
            bos_token_id=SPECIAL.index("<s>"),
            eos_token_id=SPECIAL.index("</s>"),
        )


def fresh_roberta(config: RobertaConfig, seed: int) -> RobertaModel:
    """A RoBERTa with random weights drawn from ``seed``; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RobertaModel(config, add_pooling_layer=False)


def longest_input(config: RobertaConfig) -> int:
    """Most tokens that a RoBERTa takes, special ones included (positions are counted from the padding token on)."""
    padding = SPECIAL.index("<pad>") if config.pad_token_id is None else config.pad_token_id
    return int(config.max_position_embeddings) - padding - 1


class BiEncoder(nn.Module):
    """RoBERTa and the two heads (none: it gives features but answers no question)."""

    def __init__(self, roberta: RobertaModel, start: QaHead | None, end: QaHead | None) -> None:
        super().__init__()
        self.roberta, self.start, self.end = roberta, start, end

    @classmethod
    def fresh(cls, config: RobertaConfig, seed: int, inner: int | None = None) -> BiEncoder:
        """Random weights from ``seed``; ``inner`` is the heads' inner width (default: the encoder's)."""
        roberta = fresh_roberta(config, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            width = config.hidden_size
            return cls(roberta, QaHead(width, inner or width), QaHead(width, inner or width))

    @property
    def longest(self) -> int:
        """Most tokens that go in at once, special ones included."""
        return longest_input(self.roberta.config)

    def states(self, tokens: Tokens) -> Tensor:
        """Last hidden states [b, t, d]."""
        out: Tensor = self.roberta(input_ids=tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
        return out

    def all_states(self, tokens: Tokens) -> tuple[Tensor, ...]:
        """Hidden states [b, t, d] of the embeddings and of every layer."""
        out = self.roberta(input_ids=tokens.ids, attention_mask=tokens.mask.long(), output_hidden_states=True)
        hidden: tuple[Tensor, ...] = out.hidden_states
        return hidden

    def questions(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Start and end vectors [q, d] of questions.

        Raises
        ------
        InputError
            If there are no heads.
        """
        if self.start is None or self.end is None:
            raise InputError("this encoder has no question-answering heads; load it with heads=DIRECTORY")
        first = self.states(tokens)[:, 0]
        return self.start(first), self.end(first)


def log_probabilities(
    states: Tensor, content: Tensor, questions: tuple[Tensor, Tensor], owner: Tensor, negatives: Negatives
) -> Tensor:
    """Log-probabilities of start and end over the tokens of a question's own passage.

    Parameters
    ----------
    states : float tensor [b, t, d]
    content : bool tensor [b, t]
        Where an answer may stand.
    questions : pair of float tensors [q, d]
    owner : int tensor [q]
        Passage of each question.
    negatives : {"passage", "batch"}
        Over what the softmax runs.

    Returns
    -------
    float tensor [2, q, t]
        ``-inf`` where no answer may stand.
    """
    b, t, d = states.shape
    logits = torch.stack(questions) @ states.reshape(b * t, d).T
    logits = logits.masked_fill(~content.reshape(-1), -torch.inf).view(2, -1, b, t)
    own = logits[:, torch.arange(len(owner), device=owner.device), owner]
    scope = own if negatives == "passage" else logits.flatten(2)
    return own - torch.logsumexp(scope, dim=-1, keepdim=True)


def divergence(log_p: Tensor, indices: Tensor, target: Tensor) -> Tensor:
    """KL(target || model) summed over start and end, mean over the questions that have a target.

    For one-hot targets it is the cross-entropy.

    Parameters
    ----------
    log_p : float tensor [2, q, t]
    indices : int tensor [2, q, k]
        Tokens to which the target gives probability.
    target : float tensor [2, q, k]
        Their probabilities; rows sum to one, or to zero where the answer was cut off; unused entries are zero.
    """
    chosen = log_p.gather(2, indices).masked_fill(target == 0, 0.0)
    terms = torch.xlogy(target, target) - target * chosen
    questions = (target.sum((0, 2)) > 0).sum().clamp(min=1)
    return terms.sum() / questions
