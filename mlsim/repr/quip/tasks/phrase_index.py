"""``PhraseIndex``: every phrase of a library, searchable by questions.

The texts are encoded once, into one vector per token. A question costs one short forward pass and one product

    start = V s,     end = V e,     score(i, j) = start_i + end_j

with V [n, d] the token vectors and s, e the question's two vectors; the spans are then ranked by ``spans``. The
search is exact: no clustering, no quantisation. Memory is 4 n d bytes: 64 MB for 1,000 abstracts of
250 tokens with d = 64.

On disk an index is a directory, ``phrases.npz`` (numbers) and ``index.json`` (texts, sources, digest of the encoder),
written whole, the second last; loading it with another encoder is refused, because vectors of two encoders cannot be
compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.files import write_npz, write_text
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.spans import LONGEST, best_spans
from mlsim.repr.quip.tasks.library import Text, read_folder

FORMAT, VERSION = "mlsim-phrase-index", 1
INDEX, PHRASES = "index.json", "phrases.npz"
#: Questions whose scores are held at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """A phrase that may answer a question.

    Attributes
    ----------
    text : str
        The phrase.
    score : float
        Sum of the two inner products; comparable between answers to one question, not between questions.
    source, passage : str
        File and passage it stands in.
    start : int
        Character at which it begins in the passage.
    number : int
        Number of the passage in the index.
    """

    text: str
    score: float
    source: str
    passage: str
    start: int
    number: int


class PhraseIndex:
    """Token vectors of a library.

    Parameters
    ----------
    texts : sequence of Text
    vectors : float32 array [n, d]
    offsets : int array [n, 2]
        Characters of each token in its text.
    owner : int array [n]
        Text of each token, ascending.
    digest : str
        Of the encoder that made the vectors.
    """

    def __init__(
        self,
        texts: Sequence[Text],
        vectors: NDArray[np.float32],
        offsets: NDArray[np.int64],
        owner: NDArray[np.int64],
        digest: str,
    ) -> None:
        self.texts = tuple(texts)
        self.vectors, self.offsets, self.owner = vectors, offsets, owner
        self.digest = digest
        self._known: QuipEncoder | None = None

    @classmethod
    def build(
        cls,
        encoder: QuipEncoder,
        texts: Sequence[Text],
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> PhraseIndex:
        """Encode ``texts``; ``progress(done, total)`` counts them.

        Raises
        ------
        InputError
            If there is no text, or an empty one.
        """
        if not texts:
            raise InputError("phrase index: expected at least one text, got none")
        states = []
        for k in range(0, len(texts), batch_size):
            states += encoder.token_states([t.text for t in texts[k : k + batch_size]])
            if progress is not None:
                progress(len(states), len(texts))
        return cls(
            texts,
            np.concatenate([s.vectors for s in states]),
            np.concatenate([s.offsets for s in states]),
            np.repeat(np.arange(len(states)), [len(s.vectors) for s in states]),
            encoder.digest(),
        )

    @classmethod
    def build_folder(
        cls, encoder: QuipEncoder, folder: str | Path, progress: Callable[[int, int], None] | None = None
    ) -> PhraseIndex:
        """Encode every passage of every text file below ``folder`` (see ``library``)."""
        return cls.build(encoder, read_folder(folder), progress=progress)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def query(self, encoder: QuipEncoder, question: str, top_k: int = 10, longest: int = LONGEST) -> list[Answer]:
        """The ``top_k`` best phrases that do not overlap, best first.

        Raises
        ------
        InputError
            If the question is empty, ``top_k`` or ``longest`` is below one, or the encoder has no heads.
        ArtifactError
            If the index was made by another encoder.
        """
        return self.query_many(encoder, [question], top_k, longest)[0]

    def query_many(
        self, encoder: QuipEncoder, questions: Sequence[str], top_k: int = 10, longest: int = LONGEST
    ) -> list[list[Answer]]:
        """The same for many questions."""
        if top_k < 1 or longest < 1:
            raise InputError(f"phrase index: expected top_k and longest of at least 1, got {top_k} and {longest}")
        self._require(encoder)
        start, end = encoder.question_vectors(questions)
        found: list[list[Answer]] = []
        for k in range(0, len(questions), _AT_ONCE):
            scores = np.concatenate([start[k : k + _AT_ONCE], end[k : k + _AT_ONCE]]) @ self.vectors.T
            half = len(scores) // 2
            for first, last in zip(scores[:half], scores[half:], strict=True):
                spans = best_spans(first, last, self.owner, top_k, longest)
                found.append([self._answer(s.first, s.last, s.score) for s in spans])
        return found

    def _require(self, encoder: QuipEncoder) -> None:
        """Refuse another encoder; the one that was last found right is not digested again."""
        if encoder is self._known:
            return
        if encoder.digest() != self.digest:
            raise ArtifactError(
                f"the index was made by encoder {self.digest}, this one is {encoder.digest()}; build the index again"
            )
        self._known = encoder

    def _answer(self, first: int, last: int, score: float) -> Answer:
        number = int(self.owner[first])
        begin, end = int(self.offsets[first, 0]), int(self.offsets[last, 1])
        held = self.texts[number]
        return Answer(held.text[begin:end], score, held.source, held.text, begin, number)

    def save(self, directory: str | Path) -> Path:
        """Write the index into ``directory``.

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        directory = Path(directory)
        arrays: dict[str, NDArray[Any]] = {"vectors": self.vectors, "offsets": self.offsets, "owner": self.owner}
        write_npz(directory / PHRASES, arrays, compressed=False)
        record = {"format": FORMAT, "version": VERSION, "encoder": self.digest, "tokens": len(self.vectors)}
        write_text(directory / INDEX, json.dumps({**record, "texts": [asdict(t) for t in self.texts]}) + "\n")
        return directory

    @classmethod
    def load(cls, directory: str | Path) -> PhraseIndex:
        """Read what ``save`` wrote.

        Raises
        ------
        MissingError
            If there is no index.
        ArtifactError
            If it is damaged.
        """
        directory = Path(directory)
        if not (directory / INDEX).is_file():
            raise MissingError(f"{directory}: no phrase index; expected {INDEX} and {PHRASES}")
        try:
            record = json.loads(limits.text(directory / INDEX))
            if record["format"] != FORMAT or record["version"] > VERSION:
                raise KeyError("format")
            arrays = limits.arrays(directory / PHRASES)
            vectors, offsets, owner = arrays["vectors"], arrays["offsets"], arrays["owner"]
            texts = [Text(**t) for t in record["texts"]]
            if not len(vectors) == len(offsets) == len(owner) == record["tokens"] or owner[-1] != len(texts) - 1:
                raise ValueError("numbers and texts disagree")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{directory}: damaged phrase index ({error}); build it again") from None
        return cls(texts, vectors, offsets, owner, str(record["encoder"]))


def answer(encoder: QuipEncoder, question: str, passages: Sequence[str], top_k: int = 1) -> list[Answer]:
    """The best answers in a few passages, without keeping an index."""
    texts = [Text(f"passage {k + 1}", p) for k, p in enumerate(passages)]
    return PhraseIndex.build(encoder, texts).query(encoder, question, top_k)
