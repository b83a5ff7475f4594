"""A free-energy surface as one file.

What: ``.npz`` (compressed numpy arrays) with a JSON text for everything that is not an array. Nothing is pickled, and
``load`` refuses what it does not know, so that a surface from elsewhere can be read safely. Written beside its final
name and moved there, so that a full disk leaves no half-written surface.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np

from mlsim.analysis.surfaces.surface import FreeEnergySurface, Populations
from mlsim.errors import InputError, MissingError, StorageError

FORMAT = "mlsim-surface-1"
_SCALARS = ("label", "temperature_K", "n_frames", "n_effective", "statistical_inefficiency", "n_blocks", "n_runs")
_ARRAYS = ("probability", "splits", "split_shares")


def save(surface: FreeEnergySurface, path: Path) -> None:
    """Write ``surface`` to ``path`` (ends in ``.npz``). Replicates are stored in single precision.

    Raises
    ------
    InputError
        If the name does not end in ``.npz``.
    StorageError
        If the file system refuses.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: expected a file name that ends in .npz")
    facts = {name: getattr(surface, name) for name in _SCALARS}
    facts |= {"format": FORMAT, "cv_names": list(surface.cv_names), "provenance": surface.provenance}
    arrays = {name: getattr(surface, name) for name in _ARRAYS}
    arrays |= {f"edges_{axis}": edge for axis, edge in enumerate(surface.edges)}
    arrays["replicates"] = surface.replicates.astype(np.float32)
    if surface.basins is not None:
        facts["basin_names"] = list(surface.basins.names)
        arrays |= {
            "basin_value": surface.basins.value,
            "basin_replicates": surface.basins.replicates,
            "basin_splits": surface.basins.splits,
        }
    arrays["facts"] = np.array(json.dumps(facts))
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as handle:
            np.savez_compressed(handle, **arrays)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: could not be written: {error.strerror or error}") from None


def load(path: Path) -> FreeEnergySurface:
    """Read a surface.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is not a surface, or of an unknown format version.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a surface written by 'mlsim fes'")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(str(arrays.pop("facts")))
        version = facts["format"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: not a free-energy surface; expected a file written by 'mlsim fes'") from None
    if version != FORMAT:
        raise InputError(f"{path}: surface format '{version}' is not known; expected '{FORMAT}'")
    populations = None
    try:
        if "basin_names" in facts:
            populations = Populations(
                tuple(facts["basin_names"]),
                arrays["basin_value"],
                arrays["basin_replicates"],
                arrays["basin_splits"],
            )
        return FreeEnergySurface(
            **{name: facts[name] for name in _SCALARS},
            **{name: arrays[name] for name in _ARRAYS},
            cv_names=tuple(facts["cv_names"]),
            edges=tuple(arrays[f"edges_{axis}"] for axis in range(len(facts["cv_names"]))),
            replicates=arrays["replicates"].astype(np.float64),
            basins=populations,
            provenance=facts["provenance"],
        )
    except KeyError as error:
        raise InputError(f"{path}: the surface lacks {error}; write it again with 'mlsim fes'") from None
