"""``QuipEncoder``: token and text features of a RoBERTa pretrained by question answering.

Besides the contract of every encoder it offers what the rest of this package is built on: representations of every
token of a text of any length (``token_states``), and the two vectors of a question (``question_vectors``).

Three ways to get one:

    QuipEncoder.from_pretrained("quip-facts")                                       shipped, template facts only
    QuipEncoder.from_pretrained(directory)                                          written by ``save``
    QuipEncoder.from_pretrained("quip-hf", heads="quip", tokenizer="roberta-large") the released weights

The released archive is in three places: an encoder in transformers' layout without heads, head files
(``model_qa_head_start.pt``, ``model_qa_head_end.pt``), and a tokenizer that is RoBERTa's; hence three arguments. An
encoder without heads gives features but answers no question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import RobertaConfig, RobertaModel

from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.records import digest_of
from mlsim.repr.encoder import Encoder, InputSettings, fill
from mlsim.repr.quip.biencoder import BiEncoder, fresh_roberta
from mlsim.repr.quip.heads import QaHead, load_head
from mlsim.repr.quip.tokenizer import Tokens, load_tokenizer, number_of, require_layout, tokenize
from mlsim.repr.quip.windows import WindowSettings, windows

HEAD_FILES = ("model_qa_head_start.pt", "model_qa_head_end.pt")
#: Windows that go through the encoder at once, and longest question in tokens (the paper's).
_AT_ONCE, _QUESTION_TOKENS = 64, 50


@dataclass(frozen=True)
class TokenStates:
    """Tokens of one text, without special ones and bare spaces.

    Attributes
    ----------
    vectors : float32 array [n, d]
    offsets : int array [n, 2]
        Characters of each token, end exclusive.
    """

    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]


class QuipEncoder(Encoder):
    """A RoBERTa, its heads and its tokenizer.

    Parameters
    ----------
    model : BiEncoder
    tokenizer : tokenizers.Tokenizer
    windows : WindowSettings, optional
        How texts longer than the encoder takes are cut; the paper's by default.
    """

    kind: ClassVar[str] = "quip"

    def __init__(self, model: BiEncoder, tokenizer: Tokenizer, window: WindowSettings | None = None) -> None:
        self.model = model.eval()
        self.tokenizer = require_layout(tokenizer, "tokenizer")
        self.window = window or WindowSettings.within(model.longest)
        if self.window.size > model.longest - 2:
            raise InputError(f"window: expected at most {model.longest - 2} tokens, got {self.window.size}")
        self.inputs = InputSettings(kind="text")
        self.device = torch.device("cpu")
        size = int(model.roberta.config.vocab_size)
        if tokenizer.get_vocab_size() > size:
            raise ArtifactError(
                f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the encoder {size}: not made for each other"
            )

    # ---- loading ----

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: str | Path,
        *,
        heads: str | Path | None = None,
        tokenizer: str | Path | None = None,
        device: str = "cpu",
    ) -> QuipEncoder:
        """Load an encoder.

        Parameters
        ----------
        source : str or Path
            Saved directory, shipped name, or a RoBERTa in transformers' layout (directory or hub name).
        heads : str or Path, optional
            Directory with the two head files, for the last case.
        tokenizer : str or Path, optional
            Directory, ``tokenizer.json`` or hub name, for the last case; ``source`` if not given.
        device : str

        Raises
        ------
        MissingError
            If a part is not there.
        ArtifactError
            If a part is damaged or the parts do not fit.
        """
        if heads is None and tokenizer is None:
            try:
                return super().from_pretrained(source, device=device)
            except MissingError:
                if not (Path(source) / "config.json").is_file() and str(source).count("/") != 1:
                    raise
        try:
            roberta = RobertaModel.from_pretrained(str(source), add_pooling_layer=False, dtype=torch.float32)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise MissingError(f"no RoBERTa at '{source}': {reason}; expected transformers' layout") from None
        width = int(roberta.config.hidden_size)
        start, end = (None, None) if heads is None else (load_head(Path(heads) / name, width) for name in HEAD_FILES)
        return cls(BiEncoder(roberta, start, end), load_tokenizer(tokenizer or source)).to(device)

    @classmethod
    def build(cls, config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> QuipEncoder:
        """Make the encoder from its configuration and parameters."""
        try:
            roberta = fresh_roberta(RobertaConfig(**config["roberta"]), seed=0)
            width = int(roberta.config.hidden_size)
            start, end = (None if n is None else QaHead(width, int(n)) for n in config["heads"])
            tokenizer = Tokenizer.from_str(config["tokenizer"])
            window = WindowSettings.parse(config["window"], "window")
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"quip encoder: its configuration is incomplete: {error}") from None
        model = BiEncoder(roberta, start, end)
        if state is not None:
            fill(model, state, "quip encoder")
        return cls(model, tokenizer, window)

    # ---- the contract ----

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of RoBERTa, inner widths of the heads, windows, and the tokenizer as its JSON text."""
        roberta = self.model.roberta.config.to_diff_dict()
        drop = ("transformers_version", "architectures", "dtype", "model_type", "_name_or_path")
        heads = (self.model.start, self.model.end)
        return {
            "roberta": {k: v for k, v in roberta.items() if k not in drop},
            "heads": [None if head is None else head.dense.out_features for head in heads],
            "window": self.window.model_dump(),
            "tokenizer": self.tokenizer.to_str(),
        }

    def state(self) -> dict[str, Tensor]:
        """Parameters of encoder and heads."""
        return self.model.state_dict()

    @property
    def layers(self) -> tuple[str, ...]:
        """``embeddings``, ``layer1`` ... of the transformer."""
        return ("embeddings", *(f"layer{k + 1}" for k in range(self.model.roberta.config.num_hidden_layers)))

    @property
    def pools(self) -> tuple[str, ...]:
        """Mean or largest value over the tokens of the text, or the token ``<s>`` of its first window."""
        return ("mean", "max", "first")

    @property
    def dimension(self) -> int:
        """Width of the transformer."""
        return int(self.model.roberta.config.hidden_size)

    def require(self, inputs: Any) -> Sequence[str]:
        """Texts that are not empty."""
        if isinstance(inputs, str) or not isinstance(inputs, Sequence):
            raise InputError(f"quip encoder: expected a list of texts, got {type(inputs).__name__}")
        for k, text in enumerate(inputs):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"quip encoder: expected texts that are not empty, input {k} is {text!r}")
        return inputs

    def encode_batch(self, inputs: Sequence[str], layer: str, pool: str) -> Tensor:
        """Features [b, d] of texts."""
        pieces = self._pieces(inputs, layer)
        if pool == "first":
            return torch.stack([first for first, _, _ in pieces])
        states = [vectors for _, vectors, _ in pieces]
        return torch.stack([x.mean(0) if pool == "mean" else x.amax(0) for x in states])

    def move(self, device: torch.device) -> None:
        """Put the parameters onto ``device``."""
        self.model.to(device)

    # ---- what the rest of quip needs ----

    @torch.no_grad()
    def token_states(self, texts: Sequence[str], layer: str = "last", batch_size: int = 64) -> list[TokenStates]:
        """Representations of every token of every text; long texts go through in windows.

        Raises
        ------
        InputError
            If a text is empty or the layer unknown.
        """
        chosen = self.layers[-1] if layer == "last" else layer
        if chosen not in self.layers:
            raise InputError(f"layer: expected 'last' or one of {', '.join(self.layers)}, got '{layer}'")
        checked = self.require(texts)
        found = []
        for k in range(0, len(checked), batch_size):
            for _, vectors, offsets in self._pieces(checked[k : k + batch_size], chosen):
                found.append(TokenStates(vectors.cpu().numpy(), offsets))
        return found

    @torch.no_grad()
    def question_vectors(self, questions: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Start and end vectors [q, d] of questions.

        Raises
        ------
        InputError
            If a question is empty, or the encoder has no heads.
        """
        checked = self.require(questions)
        starts, ends = [], []
        for k in range(0, len(checked), _AT_ONCE):
            tokens = tokenize(self.tokenizer, checked[k : k + _AT_ONCE], min(_QUESTION_TOKENS, self.model.longest))
            start, end = self.model.questions(tokens.to(self.device))
            starts.append(start.cpu().numpy())
            ends.append(end.cpu().numpy())
        return np.concatenate(starts), np.concatenate(ends)

    def digest(self) -> str:
        """Digest of parameters and tokenizer: what a phrase index was made with."""
        state = sorted(self.state().items())
        parts = (part for name, tensor in state for part in (name, tensor.detach().cpu().contiguous().numpy()))
        return digest_of(self.tokenizer.to_str(), *parts)

    def _pieces(self, texts: Sequence[str], layer: str) -> list[tuple[Tensor, Tensor, NDArray[np.int64]]]:
        """Per text: state of ``<s>`` in the first window, states [n, d] and offsets [n, 2] of its tokens."""
        number = self.layers.index(layer)
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        cuts = [(row, w) for row, e in enumerate(encodings) for w in windows(len(e.ids), self.window)]
        kept: list[list[Tensor]] = [[] for _ in texts]
        heads: list[Tensor | None] = [None] * len(texts)
        for k in range(0, len(cuts), _AT_ONCE):
            chunk = cuts[k : k + _AT_ONCE]
            ids = [encodings[row].ids[w.begin : w.end] for row, w in chunk]
            states = self.model.all_states(self._wrap(ids))[number]
            for (row, w), state in zip(chunk, states, strict=True):
                kept[row].append(state[1 + w.keep_begin - w.begin : 1 + w.keep_end - w.begin])
                heads[row] = state[0] if heads[row] is None else heads[row]
        found = []
        for head, parts, encoding in zip(heads, kept, encodings, strict=True):
            if head is None:
                raise InputError("quip encoder: a text has no tokens; remove it")
            offsets = np.asarray(encoding.offsets, dtype=np.int64)
            holds = offsets[:, 1] > offsets[:, 0]
            found.append((head, torch.cat(parts)[torch.from_numpy(holds).to(head.device)], offsets[holds]))
        return found

    def _wrap(self, ids: Sequence[Sequence[int]]) -> Tokens:
        """``<s> ids </s>``, padded."""
        width = max(len(row) for row in ids) + 2
        full = np.full((len(ids), width), number_of(self.tokenizer, "<pad>"), dtype=np.int64)
        begin, end = number_of(self.tokenizer, "<s>"), number_of(self.tokenizer, "</s>")
        for k, row in enumerate(ids):
            full[k, : len(row) + 2] = [begin, *row, end]
        mask = np.arange(width)[None, :] < np.asarray([len(row) + 2 for row in ids])[:, None]
        empty = np.zeros((*full.shape, 2), dtype=np.int64)
        tensors = torch.from_numpy(full), torch.from_numpy(mask)
        return Tokens(*tensors, tensors[1], empty).to(self.device)
