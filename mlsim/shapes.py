"""Array aliases and the one shape check for doors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError

#: Any float array.
Floats = NDArray[np.floating[Any]]
#: Any integer array.
Ints = NDArray[np.integer[Any]]


def require_shape(array: Any, shape: tuple[int | None, ...], what: str) -> Floats:
    """Return ``array`` as a finite float array of the given shape, or raise.

    Parameters
    ----------
    array : array_like
        What came through the door.
    shape : tuple of int or None
        Expected shape; ``None`` accepts any length.
    what : str
        Name and unit for the message, e.g. ``"positions (nm)"``.

    Raises
    ------
    InputError
        On another number of dimensions, another length, a type that is no number, or NaN/inf.
    """
    expected = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
    try:
        values = np.asarray(array)
        if values.dtype.kind not in "fiu" or values.dtype.kind in "iu":
            values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: expected numbers of shape {expected}, got {type(array).__name__}") from error
    fits = values.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, values.shape, strict=True))
    if not fits:
        raise InputError(f"{what}: expected shape {expected}, got {list(values.shape)}")
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0].tolist()
        raise InputError(f"{what}: expected finite numbers, got NaN or infinity at index {bad}")
    return values
