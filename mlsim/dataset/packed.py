"""Force frames in a quarter of the space: positions as int16, forces as float16, one HDF5 file per run.

    x = step * i,  i in -32768 .. 32767,  step = 1e-4 nm          (positions relative to the mean of the frame's atoms)
    f = float16                                                   (3 significant digits)

Rounding adds an error of 3e-5 nm to positions and of at most 0.05 % to forces: nothing beside the thermal noise of a
single frame's force (about 100 kJ/mol/nm). Where a frame is in the box is lost, which no solvent energy depends on.
Reading gives :class:`~mlsim.dataset.frames.ForceFrames` again; their digest is that of the packed content.

Layout (format ``mlsim-packed-frames``, version 1): as in :mod:`mlsim.dataset.storage`, other types.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mlsim import limits
from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.errors import InputError, MissingError
from mlsim.files import replacing

FORMAT, VERSION = "mlsim-packed-frames", 1
POSITION_STEP_NM = 1e-4
#: Step of the collective variables (angles), rad.
ANGLE_STEP_RAD = np.pi / 32767
_LARGEST = 32767
_ARRAYS = ("positions", "forces", "cvs", "bias", "run", "time_ps", "charges")
_NAMES = ("atom_types", "elements", "cv_names")


def pack(frames: ForceFrames, path: str | Path) -> Path:
    """Write ``frames`` to ``path``, replacing a file that is there.

    Raises
    ------
    InputError
        If a molecule is too large (an atom more than 3.2 nm from the centre), a force does not fit into float16
        (65,504 kJ/mol/nm), or the frames carry error bars, which this form does not hold.
    StorageError
        If the file system refuses.
    """
    path = Path(path)
    if frames.covariance is not None or frames.stderr is not None:
        raise InputError(f"{path}: mean-force labels with error bars are not packed; save them as force frames")
    centred = frames.positions - frames.positions.mean(axis=1, keepdims=True, dtype=np.float64)
    steps = np.rint(centred / POSITION_STEP_NM)
    if len(frames) and float(np.abs(steps).max()) > _LARGEST:
        raise InputError(f"{path}: an atom is {np.abs(centred).max():.2f} nm from the centre; at most 3.27 fits")
    largest = float(np.abs(frames.forces).max()) if len(frames) else 0.0
    if not largest < float(np.finfo(np.float16).max):
        raise InputError(f"{path}: a force component of {largest:.3g} kJ/mol/nm does not fit into float16")
    arrays: dict[str, Any] = {
        "positions": steps.astype("<i2"),
        "forces": frames.forces.astype("<f2"),
        "cvs": np.rint(frames.cvs / ANGLE_STEP_RAD).astype("<i2"),
        "bias": frames.bias.astype("<f4"),
        "run": frames.run.astype("<i4"),
        "time_ps": frames.time_ps.astype("<f4"),
        "charges": frames.charges.astype("<f8"),
    }
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "molecule_digest": frames.molecule_digest})
        file.attrs["provenance"] = json.dumps(frames.provenance)
        for name in _NAMES:
            file.attrs[name] = json.dumps(list(getattr(frames, name)))
        for name, values in arrays.items():
            filters = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if values.size else {}
            file.create_dataset(name, data=values, **filters)
        file.attrs["digest"] = _frames(arrays, frames).digest
    return path


def unpack(path: str | Path) -> ForceFrames:
    """Read frames written by :func:`pack`.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no file of this format, is damaged, or its content differs from its digest.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected packed force frames (HDF5)")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT or int(file.attrs["version"]) > VERSION:
                raise InputError(f"{path}: expected an HDF5 file of format '{FORMAT}', version <= {VERSION}")
            arrays = limits.datasets(file, _ARRAYS)
            if missing := [name for name in _ARRAYS if name not in arrays]:
                raise ValueError(f"lacks {', '.join(missing)}")
            head: dict[str, Any] = {name: tuple(json.loads(file.attrs[name])) for name in _NAMES}
            head["molecule_digest"] = str(file.attrs["molecule_digest"])
            head["provenance"] = json.loads(file.attrs["provenance"])
            digest = str(file.attrs["digest"])
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as packed force frames: {reason}; make the file again") from None
    frames = ForceFrames(**head, **_values(arrays))
    if frames.digest != digest:
        raise InputError(f"{path}: content does not match its digest {digest}; the file was changed or damaged")
    return frames


def unpack_set(directory: str | Path) -> dict[str, ForceFrames]:
    """Frames of a set by molecule: every ``NAME/start-*.h5`` below ``directory``, joined per name.

    Raises
    ------
    MissingError
        If there is none.
    InputError
        As :func:`unpack`; or if files of one name belong to different molecules.
    """
    directory = Path(directory)
    names = sorted({path.parent.name for path in directory.glob("*/start-*.h5")})
    if not names:
        raise MissingError(f"{directory}: no packed force frames (NAME/start-*.h5); make them with mlsim data")
    return {
        name: concatenate([unpack(path) for path in sorted((directory / name).glob("start-*.h5"))]) for name in names
    }


def _values(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        "positions": (arrays["positions"] * np.float32(POSITION_STEP_NM)).astype(np.float32),
        "forces": arrays["forces"].astype(np.float32),
        "cvs": arrays["cvs"] * ANGLE_STEP_RAD,
        "bias": arrays["bias"].astype(np.float64),
        "run": arrays["run"].astype(np.int64),
        "time_ps": arrays["time_ps"].astype(np.float64),
        "charges": arrays["charges"],
    }


def _frames(arrays: dict[str, Any], like: ForceFrames) -> ForceFrames:
    """What a reader of ``arrays`` will see."""
    names = {name: getattr(like, name) for name in (*_NAMES, "molecule_digest")}
    return ForceFrames(**names, provenance=like.provenance, **_values(arrays))
