"""Grey images from files: each depth is brought to [0, 1] by what its format means, not by what its values look like.

    1, 8 bits per channel (also colour, palette)    v / 255, colour by its luma
    16 bits                                         v / 65535
    floating point                                  as it is, which must lie in [0, 1]
    32-bit integers                                 refused: nothing says which value is white

Why no scaling by the largest value of the image: two images of one series would be scaled differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.errors import DependencyError, InputError

_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: Path) -> NDArray[np.float64]:
    """Grey values [H, W] in [0, 1] of an image file.

    Raises
    ------
    InputError
        If it is no image, too large, or of a depth that has no meaning here.
    DependencyError
        If pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except Exception:
        raise DependencyError('reading images needs pillow; pip install "mlsim[repr]"') from None
    unreadable = (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError, EOFError, MemoryError)
    try:
        with Image.open(path) as image:
            if image.size[0] * image.size[1] > limits.PIXELS:
                raise InputError(f"{path}: {image.size[0]} x {image.size[1]} pixels, expected at most {limits.PIXELS}")
            return _grey(image, path)
    except InputError:
        raise
    except (*unreadable, Image.DecompressionBombError):
        raise InputError(f"{path}: not an image that can be read; expected PNG, JPEG, .npy or a surface") from None


def read_values(path: Path) -> NDArray[Any]:
    """The array of an ``.npy`` file; its values are checked by who looks at them.

    Raises
    ------
    InputError
        If it is no array of numbers, or too large.
    """
    try:
        return limits.array(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a numpy array of numbers ({error}); expected [H, W] in [0, 1]") from None


def _grey(image: Any, path: Path) -> NDArray[np.float64]:
    if image.mode in _16_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):  # older pillow says I
        values = np.asarray(image, dtype=np.float64) / 65535.0
    elif image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
            raise InputError(
                f"{path}: an image of floating-point numbers from {values.min():g} to {values.max():g}; expected [0, 1]"
            )
    elif image.mode == "I":
        raise InputError(f"{path}: an image of 32-bit integers, of which none is known to be white; save 8 or 16 bits")
    else:
        values = np.asarray(image.convert("L"), dtype=np.float64) / 255.0
    if values.ndim != 2 or not (values.max(initial=0.0) <= 1.0):
        raise InputError(f"{path}: values beyond the 16 bits of its format; expected an image in grey or colour")
    return values
