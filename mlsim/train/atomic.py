"""Files that appear whole or not at all: written beside their place, then moved there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlsim.errors import StorageError


@contextmanager
def replacing(path: Path, what: str) -> Iterator[Path]:
    """A path to write to; at the end of the block it replaces ``path``.

    Parameters
    ----------
    path : Path
        Final place; its directory is made if needed.
    what : str
        Name of the content for the message.

    Raises
    ------
    StorageError
        If the file system refuses; an earlier file at ``path`` is kept then, and nothing else is left.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{path}: could not write the {what}: {reason}; free space or choose another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
