"""``ask`` in Python: phrases of a folder of texts that answer a question.

ask("notes/", "What inhibits Trakozin?", "quip-facts")     -> answers, best first
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.tasks.library import read_folder
from mlsim.repr.quip.tasks.phrase_index import INDEX, Answer, PhraseIndex


def ask(
    folder: str | Path,
    question: str,
    encoder: QuipEncoder,
    top: int = 5,
    kept: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Answer, ...]:
    """The phrases that answer a question best.

    Parameters
    ----------
    folder : str or Path
        Texts (.txt .md .rst .log) and remarks of .pdb.
    top : int
        Number of answers.
    kept : str or Path, optional
        Directory of the encoded texts; used again if texts and encoder are the same, else made anew.
    progress : callable, optional
        Told how many texts are encoded, and of how many.

    Raises
    ------
    MissingError, InputError
        If there are no texts, or the kept index is damaged.
    """
    texts = read_folder(Path(folder))
    place = None if kept is None else Path(kept)
    if place is not None and (place / INDEX).is_file():
        found = PhraseIndex.load(place)
        if found.digest == encoder.digest() and found.texts == tuple(texts):
            return tuple(found.query(encoder, question, top))
    made = PhraseIndex.build(encoder, texts, progress=progress)
    if place is not None:
        made.save(place)
    return tuple(made.query(encoder, question, top))


def encoder_of(name: str, heads: Path | None = None, tokenizer: str | None = None) -> QuipEncoder:
    """A QuIP encoder: a shipped name, a saved directory, or a RoBERTa with the released head files."""
    return QuipEncoder.from_pretrained(name, heads=heads, tokenizer=tokenizer)
