"""A folder of texts as passages: abstracts, notes, remarks of PDB files, logs.

A file becomes paragraphs (blank lines separate them); short ones stand as they are, long ones stay whole too, because
the encoder reads them in windows. From PDB files the free-text records are taken (TITLE, KEYWDS, REMARK 1-4 and the
like), as one passage per record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mlsim import limits
from mlsim.errors import InputError, MissingError

#: Endings of files that are read.
ENDINGS = (".txt", ".md", ".rst", ".log", ".pdb", ".ent")
_PDB_TEXT = re.compile(r"^(HEADER|TITLE |COMPND|SOURCE|KEYWDS|EXPDTA|REMARK)\s*(\d*)\s*(.*)$")


@dataclass(frozen=True)
class Text:
    """A passage and where it comes from."""

    source: str
    text: str


def read_folder(folder: str | Path) -> list[Text]:
    """Every passage of every text file below ``folder``, in the order of their names.

    Raises
    ------
    MissingError
        If there is no such folder.
    InputError
        If no text is in it, a file is not UTF-8, or a link leads out of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingError(f"{folder}: no such folder; expected one with files {', '.join(ENDINGS)}")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in ENDINGS)
    for path in files:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path}: a link that leads out of the folder; remove it, or copy the file")
    found = [text for path in files for text in _read(path, str(path.relative_to(folder)))]
    if not found:
        raise InputError(f"{folder}: no text in it; expected files {', '.join(ENDINGS)} that are not empty")
    return found


def _read(path: Path, source: str) -> list[Text]:
    try:
        content = limits.text(path)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a UTF-8 text; convert it or remove it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    parts = _pdb_records(content) if path.suffix.lower() in {".pdb", ".ent"} else re.split(r"\n\s*\n", content)
    joined = (" ".join(part.split()) for part in parts)
    return [Text(source, part) for part in joined if part]


def _pdb_records(content: str) -> Sequence[str]:
    matches = [m for m in map(_PDB_TEXT.match, content.splitlines()) if m]
    grouped = groupby(matches, key=lambda m: (m.group(1), m.group(2) if m.group(1) == "REMARK" else ""))
    return [" ".join(m.group(3) for m in group) for _, group in grouped]
