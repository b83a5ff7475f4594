"""Files and directories that appear whole or not at all, and refusals of the file system in one line.

Whatever is written goes to a new name beside its place first and takes its name when it is complete, so that a reader
and a kill at any moment meet the old content or the new one, never a part. The new name is made exclusively (an
existing file or link is never written through), begins with :data:`PARTIAL`, and is removed when the block fails; only
a killed process leaves one behind, which :func:`clear_partials` removes.

Every ``OSError`` of the file system becomes one line that says what stands in the way and what to do. Content that a
library writes by itself goes through memory (:func:`write_bytes`) where that library does not survive a full disk.
"""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import MlsimError, OccupiedError, StorageError

#: Beginning of the name of a file or directory that is not complete.
PARTIAL = ".partial-"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = {
    errno.ENOTDIR: "a file stands where a directory is needed",
    errno.EEXIST: "a file, or a link that leads nowhere, stands where a directory is needed",
    errno.EISDIR: "a directory stands where a file is needed",
    errno.ELOOP: "a link leads in a circle or stands where a file of its own is needed",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "the directory is not there, or was removed in the meantime",
}


def refusal(path: Path, error: OSError) -> StorageError:
    """What the file system said about ``path``, in one line with advice."""
    if error.errno in _FULL:
        return StorageError(
            f"{path}: no space left on the device; free some and repeat the command, with --resume if it had begun"
        )
    if error.errno in _FORBIDDEN:
        return StorageError(f"{path}: cannot be written ({error.strerror}); choose another output place")
    reason = _IN_THE_WAY.get(error.errno or 0) or error.strerror or " ".join(str(error).split())
    return StorageError(f"{path}: could not be written: {reason}; choose another output place")


@contextmanager
def storage(path: str | Path) -> Iterator[None]:
    """Turn a refusal of the file system inside the block into one clear error about ``path``.

    Raises
    ------
    StorageError
        For every ``OSError`` that is not already an error of this package.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, MlsimError):
            raise
        raise refusal(Path(path), error) from error


def require_file_place(path: str | Path) -> Path:
    """Refuse a place that cannot become a plain file; to be asked before the work whose result goes there.

    A link counts as what it leads to; where it leads nowhere it will be replaced.

    Raises
    ------
    StorageError
        For a directory, a device, a pipe, a socket, a loop of links, a place below a file, or a name that is too long.
    """
    path = Path(path)
    with storage(path):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return path
    if stat.S_ISDIR(mode):
        raise StorageError(f"{path}: is a directory; expected the name of a file, choose another output place")
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path}: is a device, pipe or socket; expected the name of a file")
    return path


def require_free(directory: str | Path, advice: str = "choose another -o") -> Path:
    """Refuse an output directory that holds something.

    Raises
    ------
    OccupiedError
        If it is not empty, or a file is in its place.
    StorageError
        If it cannot be looked at.
    """
    directory = Path(directory)
    with storage(directory):
        try:
            is_directory = stat.S_ISDIR(os.stat(directory).st_mode)
        except FileNotFoundError:
            return directory
        if is_directory and not any(directory.iterdir()):
            return directory
    what = "is not empty" if is_directory else "is a file"
    raise OccupiedError(f"{directory}: {what}; expected a new or empty directory, {advice}")


def make_directory(directory: str | Path) -> Path:
    """Make ``directory`` with its parents; it may be there already.

    Raises
    ------
    StorageError
        If it cannot be, e.g. below a file or where a file is.
    """
    directory = Path(directory)
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def replacing(path: str | Path, keep: Path | None = None) -> Iterator[Path]:
    """A new empty file to write to, which takes the place of ``path`` at the end of the block.

    Parameters
    ----------
    path : Path
        Final place; its directory is made if needed. The new file has the same ending, for writers that look at it.
    keep : Path, optional
        Name in the same directory that an earlier file at ``path`` gets; without it that file is gone.

    Raises
    ------
    StorageError
        If the file system refuses; what was at ``path`` stays then, and nothing else is left.
    """
    path = require_file_place(path)
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(path, path.suffix)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        try:
            yield partial
            _finish(partial, mode)
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, replacing an earlier one; errors as :func:`replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8), replacing an earlier one; errors as :func:`replacing`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, replacing an earlier file; errors as :func:`replacing`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]], compressed: bool = True) -> None:
    """Write arrays by name as ``.npz``, replacing an earlier file; errors as :func:`replacing`."""
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


@contextmanager
def new_directory(directory: str | Path, advice: str = "choose another -o") -> Iterator[Path]:
    """A temporary directory that becomes ``directory`` when the block ends without an error.

    Parameters
    ----------
    directory : Path
        Not there, or empty; its parent is made if needed.
    advice : str
        What to do if it is occupied.

    Raises
    ------
    OccupiedError
        If ``directory`` holds something, also if it came to do so during the block.
    StorageError
        If the file system refuses; nothing is left then.
    """
    directory = require_free(directory, advice)
    if not directory.name:
        raise StorageError(f"{directory}: cannot be replaced; name a directory that is not there yet")
    with storage(directory):
        place = directory.resolve() if directory.is_symlink() else directory
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(place)
        partial.mkdir()
        try:
            yield partial
            for path in sorted(partial.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    _finish(path, None)
            _take_name(partial, place, advice)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def open_own(path: Path, mode: str) -> BinaryIO:
    """Open a file of a directory that is held, to read and write or to append; a link is never followed.

    Parameters
    ----------
    mode : {"ab", "r+b", "w+b"}
        As for ``open``; ``w+b`` makes a new file.

    Raises
    ------
    StorageError
        If a link, a pipe or a directory stands there, or the file system refuses.
    """
    flags = {"ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT, "r+b": os.O_RDWR, "w+b": os.O_RDWR | os.O_CREAT | os.O_TRUNC}
    with storage(path):
        descriptor = os.open(path, flags[mode] | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(f"{path}: is a pipe; expected a plain file, remove it or choose another output place")
        return os.fdopen(descriptor, mode)  # type: ignore[return-value]


def clear_partials(directory: Path) -> None:
    """Remove what killed processes left incomplete in ``directory``, which this process holds locked."""
    with storage(directory):
        for path in directory.glob(PARTIAL + "*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str = "") -> Path:
    return path.with_name(f"{PARTIAL}{secrets.token_hex(6)}{suffix}")


def _take_name(partial: Path, directory: Path, advice: str) -> None:
    """Move a complete directory onto nothing or an empty one."""
    try:
        os.replace(partial, directory)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise OccupiedError(f"{directory}: was made by another process in the meantime; {advice}") from None
        raise


def _finish(path: Path, mode: int | None) -> None:
    """Content to the disk; ``mode`` for writers that put a file of their own in the place."""
    if mode is not None:
        path.chmod(mode)
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
