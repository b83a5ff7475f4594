"""Locks: a directory belongs to one process at a time.

A lock is one of the operating system on a file of its own in the directory: it goes with the process, however that
dies, and leaves nothing stale. The file is never written and never followed where it is a link. Whoever writes into a
directory holds it from before the first write (:func:`claim`).
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlsim.errors import OccupiedError, StorageError
from mlsim.files import clear_partials, make_directory, storage

#: Name of the file whose lock stands for its directory.
LOCK = ".lock"


@dataclass(eq=False)
class Held:
    """A directory that this process holds."""

    directory: Path
    descriptor: int

    def is_there(self) -> bool:
        """Whether the directory still is the one that was locked."""
        return _is_at(self.directory / LOCK, self.descriptor)

    def require_there(self) -> None:
        """Refuse to go on where the directory was removed or replaced under this process.

        Raises
        ------
        StorageError
        """
        if not self.is_there():
            raise StorageError(
                f"{self.directory}: was removed or replaced while it was in use; what was in it is lost, start again"
            )


@contextmanager
def lock(directory: str | Path) -> Iterator[Held]:
    """Hold an existing ``directory`` for this process; the lock goes with the process, however it dies.

    Raises
    ------
    OccupiedError
        If it is held already.
    StorageError
        If the lock file cannot be made, or is a link or anything but a plain file (it is never written through).
    """
    directory = Path(directory)
    path = directory / LOCK
    with storage(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        _lock(path, descriptor)
        yield Held(directory, descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise StorageError(f"{path}: expected a plain file; remove it or choose another output place")
    occupied = OccupiedError(f"{path.parent}: in use by another process; wait for it or choose another -o")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise occupied from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be locked ({error.strerror}); choose another output place") from None
    if not _is_at(path, descriptor):  # who held it before removed the directory in the meantime
        raise occupied


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file still stands at ``path``."""
    try:
        return _identity(os.lstat(path)) == _identity(os.fstat(descriptor))
    except OSError:
        return False


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


@contextmanager
def claim(directory: str | Path) -> Iterator[Held]:
    """Hold an output directory, made if needed, from before the first write on.

    A directory that was made here and holds nothing at the end is removed again; what killed processes left incomplete
    is removed at the beginning.

    Raises
    ------
    OccupiedError
        If it is held already.
    StorageError
        If it cannot be made or locked.
    """
    directory = Path(directory)
    with storage(directory):
        made = not directory.exists()
    make_directory(directory)
    with lock(directory) as held:
        try:
            clear_partials(directory)
            yield held
        finally:
            if made:
                _remove_if_empty(directory)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        if [path.name for path in directory.iterdir()] == [LOCK]:
            (directory / LOCK).unlink()
            directory.rmdir()
