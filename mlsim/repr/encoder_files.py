"""Files of this room that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlsim.errors import StorageError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` at the end of the block.

    Raises
    ------
    StorageError
        If the file system refuses; what was at ``path`` stays then.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written: {error}; free space or choose another place") from None
    finally:
        beside.unlink(missing_ok=True)
