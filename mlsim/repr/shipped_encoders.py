"""Encoders on disk: the shipped ones in ``pretrained/``, and the directory that a name or a path stands for."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsim import limits
from mlsim.errors import MissingError
from mlsim.settings import read_yaml

#: Where the shipped encoders lie.
PRETRAINED = Path(__file__).resolve().parent / "pretrained"
#: The file that makes a directory an encoder.
CONFIG = "encoder.json"


@dataclass(frozen=True)
class Shipped:
    """One shipped encoder: its name, kind, directory, how its inputs are made, and its card."""

    name: str
    kind: str
    directory: Path
    inputs: str
    card: dict[str, Any]


def available() -> tuple[Shipped, ...]:
    """The shipped encoders, by name."""
    found = []
    for path in sorted(PRETRAINED.glob(f"*/{CONFIG}")):
        record = json.loads(limits.text(path, limits.SETTINGS))
        card = path.parent / "card.yaml"
        inputs = record.get("inputs", {}).get("kind", "array")
        contents = read_yaml(card) if card.is_file() else {}
        found.append(Shipped(path.parent.name, record["kind"], path.parent, inputs, contents))
    return tuple(found)


def directory_of(source: str | Path) -> Path:
    """Directory of a saved or shipped encoder.

    Raises
    ------
    MissingError
        With a suggestion, if there is none.
    """
    for directory in (Path(source), PRETRAINED / str(source)):
        if (directory / CONFIG).is_file():
            return directory
    known = [shipped.name for shipped in available()]
    close = difflib.get_close_matches(str(source), known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"shipped: {', '.join(known) or 'none'}"
    raise MissingError(f"no encoder '{source}'; expected a directory with {CONFIG} or a shipped name; {hint}")
