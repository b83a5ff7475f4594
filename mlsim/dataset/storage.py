"""ForceFrames on disk: one compressed HDF5 file, written whole or not at all.

Layout (format ``mlsim-force-frames``, version 1): one dataset per array, gzip with byte shuffle, each with a ``unit``
attribute; names and provenance as JSON attributes of the root; ``digest`` of the content, checked on reading.
The file is written beside its place and moved there when complete, so that a reader never meets half a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mlsim import limits
from mlsim.dataset.frames import ARRAYS, ForceFrames
from mlsim.errors import InputError, MissingError
from mlsim.files import replacing

FORMAT = "mlsim-force-frames"
VERSION = 1
UNITS = {
    "positions": "nm",
    "forces": "kJ/mol/nm",
    "cvs": "rad",
    "bias": "kJ/mol",
    "run": "index",
    "time_ps": "ps",
    "covariance": "(kJ/mol/nm)^2",
    "stderr": "kJ/mol/nm",
    "charges": "e",
}
_NAMES = ("atom_types", "elements", "cv_names")


def save(frames: ForceFrames, path: str | Path) -> Path:
    """Write ``frames`` to ``path`` (HDF5), replacing a file that is there.

    Raises
    ------
    StorageError
        If the file system refuses; nothing is left behind then.
    """
    path = Path(path)
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "digest": frames.digest})
        file.attrs["molecule_digest"] = frames.molecule_digest
        file.attrs["provenance"] = json.dumps(frames.provenance)
        for name in _NAMES:
            file.attrs[name] = json.dumps(list(getattr(frames, name)))
        for name in ARRAYS:
            values = getattr(frames, name)
            if values is not None:
                file.create_dataset(name, data=values, **_compression(values)).attrs["unit"] = UNITS[name]
    return path


def load(path: str | Path) -> ForceFrames:
    """Read frames written by :func:`save`.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no file of this format and version, is damaged, or its content differs from its digest.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected force frames (HDF5)")
    try:
        with h5py.File(path, "r") as file:
            _require_format(file, path)
            values: dict[str, Any] = limits.datasets(file, ARRAYS)
            for name in _NAMES:
                values[name] = tuple(json.loads(file.attrs[name]))
            values["molecule_digest"] = str(file.attrs["molecule_digest"])
            values["provenance"] = json.loads(file.attrs["provenance"])
            digest = str(file.attrs["digest"])
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as force frames: {reason}; make the file again") from None
    missing = [
        name for name in ("positions", "forces", "charges", "run", "time_ps", "cvs", "bias") if name not in values
    ]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; make the file again")
    frames = ForceFrames(**values)
    if frames.digest != digest:
        raise InputError(f"{path}: content does not match its digest {digest}; the file was changed or damaged")
    return frames


def _require_format(file: h5py.File, path: Path) -> None:
    found = file.attrs.get("format")
    if found != FORMAT:
        raise InputError(f"{path}: expected an HDF5 file of format '{FORMAT}', got {found!r}")
    if int(file.attrs["version"]) > VERSION:
        raise InputError(
            f"{path}: format version {int(file.attrs['version'])}, this mlsim reads up to {VERSION}; upgrade"
        )


def _compression(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """HDF5 filters, with chunks of whole frames of about 1 MB; none for an empty array."""
    if values.size == 0:
        return {}
    row = int(np.prod(values.shape[1:])) * values.itemsize
    chunks = (max(1, min(len(values), 2**20 // row)), *values.shape[1:])
    return {"chunks": chunks, "compression": "gzip", "compression_opts": 6, "shuffle": True}
