"""A causal language model of transformers as a stochastic policy over strings.

The logits of the model are soft Q-values at temperature one, so that they say at once how good an action is and how
often to take it:

    Q_t(a) = logits_t[a],   V_t = log sum_a exp Q_t(a),   pi_t(a) = exp(Q_t(a) - V_t)

over the actions that :class:`~mlsim.repr.soft_q.alphabet.Alphabet` allows at position t. Sampling keeps the k best
actions of every position if asked; beam search keeps the w likeliest beginnings.

Any model with ``forward(input_ids).logits`` of the alphabet's size will do; :func:`tiny` makes a small GPT-2.
Dropout is off: the path consistencies compare log-probabilities of one and the same policy.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.errors import DependencyError, InputError
from mlsim.repr.soft_q.alphabet import BEGIN, END, Alphabet
from mlsim.settings import Settings


class GPTSettings(Settings):
    """Size of the small GPT-2."""

    width: int = Field(64, ge=4, le=4096)
    layers: int = Field(2, ge=1, le=48)
    heads: int = Field(4, ge=1, le=64)


class Policy(nn.Module):
    """Language model and alphabet together.

    Parameters
    ----------
    model : torch module
        Causal language model of transformers, ``model.config.vocab_size == alphabet.size``.
    alphabet : Alphabet

    Raises
    ------
    InputError
        If model and alphabet differ in size or the model reads fewer positions than the longest sequence has.
    """

    allowed: Tensor

    def __init__(self, model: nn.Module, alphabet: Alphabet) -> None:
        super().__init__()
        config: Any = model.config
        if config.vocab_size != alphabet.size:
            raise InputError(f"model: expected a vocabulary of {alphabet.size} tokens, got {config.vocab_size}")
        places = getattr(config, "max_position_embeddings", None)
        if places is not None and places < alphabet.longest:
            raise InputError(f"model: expected at least {alphabet.longest} positions, got {places}")
        self.model = model
        self.alphabet = alphabet
        self.register_buffer("allowed", alphabet.allowed(), persistent=False)
        # transformers 5.24 renamed the argument and the output
        names = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"

    def forward(self, actions: Tensor) -> Tensor:
        """Q-values [B, T, A] before each of the actions int64 [B, T]; minus infinity where not allowed."""
        begin = torch.full_like(actions[:, :1], BEGIN)
        seen = torch.cat([begin, actions[:, :-1]], dim=1)
        logits: Tensor = self.model(input_ids=seen).logits
        return logits.masked_fill(~self.allowed[: actions.shape[1]], -torch.inf)

    def log_prob(self, actions: Tensor, taken: Tensor) -> Tensor:
        """Log-probability [B] of whole sequences, summed over the actions ``taken`` [B, T]."""
        steps = self(actions).log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return steps.masked_fill(~taken, 0.0).sum(1)

    @torch.no_grad()
    def sample(
        self, count: int, generator: torch.Generator, top_k: int | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Draw ``count`` sequences: actions int64 [count, T] and which were taken, bool [count, T].

        Parameters
        ----------
        top_k : int, optional
            Draw among the k likeliest actions of each position only.
        temperature : float
            The logits are divided by it.
        """
        if count < 1 or temperature <= 0 or (top_k is not None and top_k < 1):
            raise InputError(
                f"sample: expected count, top_k and temperature above zero, got {count}, {top_k}, {temperature}"
            )
        device = self.allowed.device
        actions = torch.zeros((count, self.alphabet.longest), dtype=torch.int64, device=device)
        taken = torch.zeros_like(actions, dtype=torch.bool)
        alive = torch.ones(count, dtype=torch.bool, device=device)
        last = torch.full((count, 1), BEGIN, device=device)
        cache: Any = None
        for position in range(self.alphabet.longest):
            output = self.model(input_ids=last, use_cache=True, **{self._cache_name: cache})
            cache = output[self._cache_name]
            logits = output.logits[:, -1].masked_fill(~self.allowed[position], -torch.inf) / temperature
            if top_k is not None and top_k < logits.shape[1]:
                bound = logits.topk(top_k, dim=1).values[:, -1:]
                logits = logits.masked_fill(logits < bound, -torch.inf)
            last = torch.multinomial(logits.softmax(1), 1, generator=generator)
            actions[:, position] = torch.where(alive, last[:, 0], BEGIN)
            taken[:, position] = alive
            alive = alive & (last[:, 0] != END)
            if not alive.any():
                break
        return actions, taken

    @torch.no_grad()
    def beam(self, width: int) -> list[tuple[str, float]]:
        """The ``width`` best strings that beam search finds and their log-probabilities, best first."""
        if width < 1:
            raise InputError(f"beam: expected a width of at least 1, got {width}")
        device = self.allowed.device
        beginnings = torch.zeros((1, 0), dtype=torch.int64, device=device)
        scores = torch.zeros(1, device=device)
        done: list[tuple[str, float]] = []
        for position in range(self.alphabet.longest):
            padded = torch.cat([beginnings, torch.zeros_like(scores, dtype=torch.int64).unsqueeze(1)], dim=1)
            steps = self(padded)[:, position].log_softmax(-1)
            total = (scores.unsqueeze(1) + steps).flatten()
            best = total.topk(min(width, int(torch.isfinite(total).sum())))
            parent, token = best.indices // steps.shape[1], best.indices % steps.shape[1]
            ended = token == END
            rows = self.alphabet.decode(beginnings[parent[ended]])
            done += list(zip(rows, best.values[ended].tolist(), strict=True))
            beginnings = torch.cat([beginnings[parent], token.unsqueeze(1)], dim=1)[~ended]
            scores = best.values[~ended]
            if len(beginnings) == 0:
                break
        done += list(zip(self.alphabet.decode(beginnings), scores.tolist(), strict=True))
        return sorted(done, key=lambda pair: -pair[1])[:width]


def tiny(alphabet: Alphabet, settings: GPTSettings, seed: int) -> Policy:
    """A small GPT-2 with fresh weights for ``alphabet``.

    The global generator of torch, which transformers uses for its initial weights, is put back afterwards.

    Raises
    ------
    DependencyError
        Without transformers.
    """
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except Exception as error:
        # a torchvision of another build raises RuntimeError here
        raise DependencyError(
            f"soft Q-learning needs transformers ({type(error).__name__}: {str(error).splitlines()[0]}); "
            'pip install "mlsim[repr]"'
        ) from None
    config = GPT2Config(
        vocab_size=alphabet.size,
        n_positions=alphabet.longest + 1,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return Policy(GPT2LMHeadModel(config), alphabet)
