"""Names of things that a user may ask for: spelling suggestions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """``did you mean 'NAME'?`` for the known name that is spelt most like ``word``; empty if none is."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else ""
