"""``model.pt`` compared with the program that weights and settings give, without running or loading what was received.

Why: a TorchScript program can write files (``torch.from_file``, ``torch.save``), and loading one runs its
``__setstate__``. So a received ``model.pt`` is only read: it is a zip archive of source text, pickles and raw numbers,
and all three can be compared with those of a program that was made here from ``weights.safetensors`` and
``config.yaml``.

    archive -> parts by name:   classes and functions, as text      equal
                                pickles, as lists of operations      equal (they are listed, never unpickled)
                                numbers                              equal to 1e-6 of each

Names that TorchScript makes unique by counting (``___torch_mangle_7``) depend on what a process compiled before; they
are numbered anew by first appearance, and constants of a class are sorted. Debug records and the archive's serial
number do not count.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Largest relative difference of a number that another processor may give.
ROUNDING = 1e-6
#: Most bytes that the parts of an archive may have together.
LARGEST = 256 * 1024**2
_PICKLES = ("data.pkl", "constants.pkl")
_IGNORED = re.compile(r"\.data/serialization_id|.*\.debug_pkl")
_NAME = re.compile(r"__torch__(?:[./]\w+)+")
_COUNTED = re.compile(r"[./]___torch_mangle_\d+")
_CONSTANT = re.compile(r"  \w+ : Final\[")
_BLOCK = re.compile(r"^(?:class|def) (\w+)", re.MULTILINE)


def differing_parts(received: bytes, rebuilt: bytes) -> list[str]:
    """Names of the parts of ``received`` that are not those of ``rebuilt``; empty if it is the same program.

    Nothing of ``received`` is executed.
    """
    try:
        found = _parts(received)
    except (ValueError, KeyError, IndexError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile) as error:
        return [f"the archive ({type(error).__name__})"]
    expected = _parts(rebuilt)
    names = sorted(found.keys() | expected.keys())
    return [name for name in names if not _equal(found.get(name), expected.get(name))]


def _equal(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if not (isinstance(one, bytes) and isinstance(other, bytes)) or len(one) != len(other):
        return False
    for kind in (np.float32, np.float64):
        if len(one) % np.dtype(kind).itemsize == 0:
            x, y = (np.frombuffer(part, dtype=kind) for part in (one, other))
            with np.errstate(all="ignore"):
                if np.isfinite(x).all() and np.allclose(x, y, rtol=ROUNDING, atol=0.0):
                    return True
    return False


def _parts(content: bytes) -> dict[str, Any]:
    """Parts by name: text of every class and function, operations of every pickle, bytes of every tensor."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > LARGEST or len({e.filename for e in entries}) != len(entries):
            raise ValueError("too large, or a name stands twice")
        raw = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
    raw = {name: part for name, part in raw.items() if not _IGNORED.fullmatch(name)}
    names = _Names()
    parts: dict[str, Any] = {
        name: [(op, names.plain(arg)) for op, arg in _operations(raw[name])] for name in _PICKLES if name in raw
    }
    blocks = [block for name, part in raw.items() if name.startswith("code/") for block in _blocks(name, part)]
    for name, text in sorted(blocks, key=lambda block: tuple(_COUNTED.sub("", part) for part in block)):
        parts[names.plain(name)] = names.plain(text)
    return parts | {name: part for name, part in raw.items() if name not in parts and not name.startswith("code/")}


def _operations(pickled: bytes) -> Iterator[tuple[str, Any]]:
    """Operations of a pickle and their arguments, listed without being carried out."""
    for operation, argument, _ in pickletools.genops(pickled):
        if isinstance(argument, str):
            argument = argument.replace(" ", ".")  # GLOBAL gives module and name so
        yield operation.name, argument


def _blocks(name: str, part: bytes) -> Iterator[tuple[str, str]]:
    """Classes and functions of a source file: full name and text."""
    text, place = part.decode(), name.removeprefix("code/").removesuffix(".py").replace("/", ".")
    starts = list(_BLOCK.finditer(text))
    yield f"head of {place}", text[: starts[0].start()] if starts else text
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        lines = text[start.start() : None if following is None else following.start()].rstrip().split("\n")
        constants = [line for line in lines if _CONSTANT.match(line)]  # in the order of a set
        yield f"{place}.{start[1]}", "\n".join([*(x for x in lines if x not in constants), *sorted(constants)])


class _Names:
    """Names without the counters of a process: the n-th of those that differ in their counter only is ``name#n``."""

    def __init__(self) -> None:
        self._seen: dict[str, list[str]] = {}

    def plain(self, text: Any) -> Any:
        """``text`` with every name in it numbered by first appearance."""
        return _NAME.sub(self._numbered, text) if isinstance(text, str) else text

    def _numbered(self, match: re.Match[str]) -> str:
        name = match[0]
        seen = self._seen.setdefault(_COUNTED.sub("", name), [])
        if name not in seen:
            seen.append(name)
        return f"{_COUNTED.sub('', name)}#{seen.index(name)}"
