"""Tokenizers: train a small byte-level BPE, or take over any fast one from transformers.

The layout is RoBERTa's, ``<s> text </s>`` and ``<s> question </s></s> text </s>``, so that models trained here and the
released ones go the same road. Why byte-level: no character is ever unknown, which matters for names and units. Why
lower-cased, unlike RoBERTa: a name at the head of a sentence and in a question must be one sequence of tokens for a
model this small.

Everything below works on ``tokenizers.Tokenizer``: it brings character offsets, and its JSON form is stored inside the
encoder's configuration, so that an encoder is never paired with a wrong vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from mlsim.errors import ArtifactError, InputError, MissingError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@dataclass(frozen=True)
class Tokens:
    """A padded batch.

    Attributes
    ----------
    ids : int64 tensor [b, t]
    mask : bool tensor [b, t]
        True at real tokens, special ones included.
    content : bool tensor [b, t]
        True at tokens of the text (of the second text for pairs) that hold characters: where an answer may stand.
        A token that is nothing but a space holds none.
    offsets : int array [b, t, 2]
        Characters of each token in its text, end exclusive.
    """

    ids: Tensor
    mask: Tensor
    content: Tensor
    offsets: NDArray[np.int64]

    def to(self, device: torch.device) -> Tokens:
        """The same batch on ``device``."""
        return Tokens(self.ids.to(device), self.mask.to(device), self.content.to(device), self.offsets)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE of about ``vocabulary`` tokens (at least 261: the bytes and five special ones).

    Raises
    ------
    InputError
        If the vocabulary is too small.
    """
    if vocabulary < 256 + len(SPECIAL):
        raise InputError(f"vocabulary: expected at least {256 + len(SPECIAL)} tokens, got {vocabulary}")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True
    )
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def load_tokenizer(source: str | Path) -> Tokenizer:
    """A fast tokenizer in RoBERTa's layout from a ``tokenizer.json``, a directory, or a hub name.

    Raises
    ------
    MissingError
        If there is none.
    ArtifactError
        If its special tokens are not RoBERTa's.
    """
    path = Path(source)
    try:
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        elif (path / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(str(source)).backend_tokenizer
    except Exception as error:  # tokenizers raises bare Exception
        reason = " ".join(str(error).split())[:200]
        raise MissingError(
            f"no tokenizer at '{source}': {reason}; expected tokenizer.json or the directory of a RoBERTa tokenizer"
        ) from None
    return require_layout(tokenizer, str(source))


def require_layout(tokenizer: Tokenizer, where: str) -> Tokenizer:
    """Check that RoBERTa's special tokens are there."""
    missing = [word for word in SPECIAL if tokenizer.token_to_id(word) is None]
    if missing:
        raise ArtifactError(f"{where}: expected a tokenizer in RoBERTa's layout, it lacks {', '.join(missing)}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def number_of(tokenizer: Tokenizer, special: str) -> int:
    """Number of a special token."""
    number = tokenizer.token_to_id(special)
    if number is None:
        raise ArtifactError(f"the tokenizer has no token {special}; expected RoBERTa's layout")
    return int(number)


def tokenize(tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]], longest: int) -> Tokens:
    """Encode texts, or pairs of them, and pad; what exceeds ``longest`` tokens (special ones included) is cut off.

    For pairs the second text is cut.
    """
    encodings = tokenizer.encode_batch(list(texts))
    cut = [min(len(e.ids), longest) for e in encodings]
    width = max(cut)
    ids = np.full((len(cut), width), number_of(tokenizer, "<pad>"), dtype=np.int64)
    content = np.zeros(ids.shape, dtype=bool)
    offsets = np.zeros((*ids.shape, 2), dtype=np.int64)
    last = number_of(tokenizer, "</s>")
    for row, (encoding, n) in enumerate(zip(encodings, cut, strict=True)):
        pair = isinstance(texts[row], tuple)
        ids[row, :n] = encoding.ids[:n]
        content[row, :n] = [s == int(pair) for s in encoding.sequence_ids[:n]]
        offsets[row, :n] = encoding.offsets[:n]
        if n < len(encoding.ids):
            ids[row, n - 1], content[row, n - 1] = last, False
    content &= offsets[..., 1] > offsets[..., 0]
    where = np.arange(width)[None, :] < np.asarray(cut)[:, None]
    return Tokens(torch.from_numpy(ids), torch.from_numpy(where), torch.from_numpy(content), offsets)
