"""Limits of what is read, and readers that keep them: a file is measured before anything is allocated for it.

Why: a few bytes can declare terabytes (the shape in an array's header), unpack to gigabytes (zeros in an archive) or
expand without end (aliases of YAML). Files are exchanged between people, so every reader of this package goes through
here or through a format that cannot do that (safetensors).

    archive (.npz)    n unpacked bytes  <=  max(FLOOR, RATIO * bytes of the file)  and  <= the reader's own limit,
                      and every header declares exactly the bytes that its part has
    HDF5              the same for the datasets asked for, which are plain numbers in the file itself
    torch             parts are not compressed, so that they hold no more than the file
    text              bytes of the file, nodes and depth of YAML

All raise ``ValueError`` with the reason; the reader says of which file, and what to do.
"""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MEGABYTE = 1024**2
#: Largest settings file (YAML), record (JSON) and text, bytes.
SETTINGS, RECORD, TEXT = 4 * MEGABYTE, 64 * MEGABYTE, 256 * MEGABYTE
#: Most values of a settings file, aliases written out, and how deep they may lie in each other.
NODES, DEPTH = 100_000, 40
#: Largest image, pixels.
PIXELS = 64 * MEGABYTE
#: Arrays of a file: so many bytes are always allowed, and so many times the bytes of the file.
FLOOR, RATIO = 128 * MEGABYTE, 100
#: Most bytes of arrays in one file.
ARRAYS = 64 * 1024 * MEGABYTE
#: Most arrays in one file, and the longest header of one, bytes.
PARTS, HEADER = 100_000, 10_000
_KINDS = "biufcSU"


def file_bytes(path: str | Path, largest: int) -> bytes:
    """Content of a plain file.

    Raises
    ------
    ValueError
        If it is larger, or no plain file (a pipe would be waited for).
    OSError
        If it cannot be opened.
    """
    with _plain(Path(path)) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > largest:
            raise ValueError(f"{size} bytes, expected at most {largest}")
        return handle.read(size)


def require_plain(path: str | Path) -> None:
    """Refuse what is no plain file, for libraries that would wait for a pipe; errors as :func:`file_bytes`."""
    _plain(Path(path)).close()


def text(path: str | Path, largest: int = TEXT) -> str:
    """Text of a file (UTF-8, a byte-order mark is left out); errors as :func:`file_bytes`."""
    return file_bytes(path, largest).decode("utf-8-sig")


def arrays(source: str | Path | bytes, largest: int = ARRAYS, packed: bool = True) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` archive by name; numbers and texts only.

    Parameters
    ----------
    source : path, or content of a file
    largest : int
        Most bytes of all arrays together.
    packed : bool
        Whether parts may be compressed; otherwise they cannot be larger than the file.

    Raises
    ------
    ValueError
        If it is no such archive, or declares more than the limits allow.
    OSError
        If it cannot be opened.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else _plain(Path(source)) as handle:
        size = handle.seek(0, io.SEEK_END)
        try:
            with zipfile.ZipFile(handle) as archive:
                entries = archive.infolist()
                require_size(sum(entry.file_size for entry in entries), size if packed else 0, largest, len(entries))
                if not packed:
                    _require_stored(entries, size)
                return {e.filename.removesuffix(".npy"): _array(archive.read(e)) for e in entries}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
            raise ValueError(" ".join(str(error).split()) or "damaged archive") from None


def array(path: str | Path, largest: int = FLOOR) -> NDArray[Any]:
    """The array of an ``.npy`` file; errors as :func:`arrays`."""
    return _array(file_bytes(path, largest))


def datasets(file: Any, names: Iterable[str], largest: int = ARRAYS) -> dict[str, NDArray[Any]]:
    """Those of the datasets ``names`` that an open HDF5 file has.

    Raises
    ------
    ValueError
        If one leads out of the file (links, external storage), does not hold numbers, or declares too much.
    """
    found: dict[str, Any] = {}
    for name in names:
        link = file.get(name, getlink=True)
        if link is None:
            continue
        if type(link).__name__ != "HardLink":
            raise ValueError(f"'{name}' is a link, expected numbers in the file itself")
        dataset = file[name]
        if not hasattr(dataset, "dtype") or dataset.dtype.kind not in "biuf" or dataset.shape is None:
            raise ValueError(f"'{name}' does not hold numbers")
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"'{name}' lies in another file")
        found[name] = dataset
    declared = sum(math.prod(d.shape) * d.dtype.itemsize for d in found.values())
    require_size(declared, os.stat(file.filename).st_size, largest, len(found))
    return {name: dataset[()] for name, dataset in found.items()}


def require_size(declared: int, file_size: int, largest: int = ARRAYS, parts: int = 1) -> None:
    """Refuse what declares more bytes than the limits allow for a file of ``file_size`` bytes.

    Raises
    ------
    ValueError
    """
    most = min(largest, max(FLOOR, RATIO * file_size))
    if declared > most:
        raise ValueError(f"declares {declared} bytes of numbers, expected at most {most}")
    if parts > PARTS:
        raise ValueError(f"{parts} parts, expected at most {PARTS}")


def torch_file(path: str | Path, largest: int = ARRAYS) -> IO[bytes]:
    """A file of ``torch.save``, open, whose parts hold no more than the file; to be read with ``weights_only``.

    Raises
    ------
    ValueError, OSError
        If parts are compressed, or it is larger, or no plain file.
    """
    handle = _plain(Path(path))
    try:
        size = handle.seek(0, io.SEEK_END)
        if size > largest:
            raise ValueError(f"{size} bytes, expected at most {largest}")
        handle.seek(0)
        if zipfile.is_zipfile(handle):
            handle.seek(0)
            with zipfile.ZipFile(handle) as archive:
                _require_stored(archive.infolist(), size)
        handle.seek(0)
    except zipfile.BadZipFile as error:
        handle.close()
        raise ValueError(str(error)) from None
    except BaseException:
        handle.close()
        raise
    return handle


def require_nodes(events: Iterable[Any]) -> None:
    """Refuse YAML (as its events) that has too many values, aliases written out, or lies too deep in itself.

    Raises
    ------
    ValueError
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchors of the collections around, and the count at their beginning
    count = 0
    for event in events:
        kind = type(event).__name__
        if kind == "AliasEvent":
            if event.anchor not in sizes:
                raise ValueError(f"'*{event.anchor}' stands inside of what it means, or before it")
            count += sizes[event.anchor]
        elif kind == "ScalarEvent":
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            open_.append((event.anchor, count))
            count += 1
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = count - before
        if count > NODES or len(open_) > DEPTH:
            raise ValueError(f"expected at most {NODES} values (aliases written out), at most {DEPTH} deep")


def _plain(path: Path) -> IO[bytes]:
    """A plain file, open; neither a pipe nor a device is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ValueError("a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket, expected a plain file")
    return os.fdopen(descriptor, "rb")


def _require_stored(entries: list[zipfile.ZipInfo], size: int) -> None:
    if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > size:
        raise ValueError("its parts are compressed or larger than the file")


def _array(content: bytes) -> NDArray[Any]:
    """An array in the format ``.npy``, whose header declares exactly the bytes that follow."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream, max_header_size=HEADER)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, KeyError):
        raise ValueError("not an array of numbers") from None
    if dtype.kind not in _KINDS or dtype.hasobject:
        raise ValueError(f"holds {dtype}, expected numbers")
    start = stream.tell()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"declares shape {list(shape)[:8]} of {dtype}, holds {len(content) - start} bytes")
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    values = np.frombuffer(content, dtype, offset=start)
    found: NDArray[Any] = values.reshape(shape, order="F" if by_columns else "C").copy()
    return found
