"""Tables of an mmCIF file: one category as rows of text.

    loop_ _atom_site.id _atom_site.Cartn_x ... values     ->  [{"id": "1", "Cartn_x": "-0.645", ...}, ...]

Reads the syntax of STAR files as mmCIF uses it: values separated by white space, quoted by ' or " (a quote ends where
white space follows), text fields between lines that begin with ``;``, comments from ``#``. ``.`` and ``?`` (not
applicable, unknown) become empty.

Reference: Hall, Allen and Brown, Acta Cryst. A47, 655 (1991).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from mlsim.errors import InputError

_TOKEN = re.compile(r"""'(?:[^']|'(?=\S))*'(?=\s|$)|"(?:[^"]|"(?=\S))*"(?=\s|$)|\#.*$|\S+""")

#: Most characters of a line of values; the format allows 2,048.
_LONGEST_LINE = 20_000
#: Stands for the end of the file.
_END = ("", True)


def category(text: str, name: str, source: str) -> list[dict[str, str]]:
    """Rows of a category of the first data block; none if it is not there.

    Parameters
    ----------
    text : str
        Contents of the file.
    name : str
        For example ``"_atom_site"``.
    source : str
        Name of the file, for the message.

    Raises
    ------
    InputError
        If the file is no mmCIF file or a table is not full.
    """
    tokens = _tokens(text, source)  # one after the other, because a large file has millions
    token = next(tokens, _END)
    if not token[0].lower().startswith("data_"):
        raise InputError(f"{source}: does not begin with data_; expected an mmCIF file")
    single: dict[str, str] = {}
    token = next(tokens, _END)
    while token is not _END and not (token[0].lower().startswith("data_") and not token[1]):
        word, quoted = token
        token = next(tokens, _END)
        if word.lower() == "loop_" and not quoted:
            tags, values = [], []
            while _is_tag(token):
                tags.append(token[0])
                token = next(tokens, _END)
            wanted = bool(tags) and tags[0].lower().startswith(f"{name.lower()}.")
            while token is not _END and not _is_keyword(token):
                if wanted:
                    values.append(sys.intern(_value(token)))  # most are repeated
                token = next(tokens, _END)
            if wanted:
                return _rows(tags, values, name, source)
        elif word.lower().startswith(f"{name.lower()}.") and not quoted and token is not _END:
            single[word.split(".", 1)[1]] = _value(token)
            token = next(tokens, _END)
    return [single] if single else []


def _rows(tags: list[str], texts: list[str], name: str, source: str) -> list[dict[str, str]]:
    columns = [tag.partition(".")[2] for tag in tags]
    if len(texts) % len(columns):
        raise InputError(f"{source}: table {name}: {len(texts)} values do not fill {len(columns)} columns")
    return [dict(zip(columns, texts[k : k + len(columns)], strict=True)) for k in range(0, len(texts), len(columns))]


def _value(token: tuple[str, bool]) -> str:
    text, quoted = token
    return "" if text in (".", "?") and not quoted else text


def _is_tag(token: tuple[str, bool]) -> bool:
    return token[0].startswith("_") and not token[1]


def _is_keyword(token: tuple[str, bool]) -> bool:
    lower = token[0].lower()
    return not token[1] and (lower.startswith(("_", "data_", "save_")) or lower in ("loop_", "stop_", "global_"))


def _tokens(text: str, source: str) -> Iterator[tuple[str, bool]]:
    """Words of the file, and whether each was quoted."""
    block: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(";"):
            if block is None:
                block = [line[1:]]
                continue
            yield "\n".join(block), True
            block, line = None, line[1:]  # the rest of the closing line may hold values
        if block is not None:
            block.append(line)
            continue
        if len(line) > _LONGEST_LINE:
            raise InputError(f"{source}: a line of {len(line)} characters; expected an mmCIF file")
        for match in _TOKEN.finditer(line):
            word = match.group()
            if word.startswith("#"):
                break
            quoted = len(word) > 1 and word[0] in "'\"" and word[-1] == word[0]
            yield (word[1:-1], True) if quoted else (word, False)
