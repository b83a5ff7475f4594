"""A free-energy surface as one file.

What: ``.npz`` (compressed numpy arrays) with a JSON text for everything that is not an array. Nothing is pickled, and
``load`` refuses what it does not know, so that a surface from elsewhere can be read safely. Written beside its final
name and moved there, so that a full disk leaves no half-written surface.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.analysis.occupancy import Occupancy
from mlsim.analysis.surfaces.basin_populations import Populations
from mlsim.analysis.surfaces.subject import Subject
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.errors import InputError, MissingError
from mlsim.files import write_npz

FORMAT = "mlsim-surface-2"
_SCALARS = ("label", "temperature_K", "n_frames", "n_effective", "statistical_inefficiency", "n_blocks", "n_runs")
_ARRAYS = ("probability", "splits", "split_shares", "variance", "entries")
#: Largest file that is opened, bytes unpacked.
_LARGEST = 2 * 1024**3


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
    facts["sampled_ps"] = surface.sampled_ps if math.isfinite(surface.sampled_ps) else None
    arrays = {name: getattr(surface, name) for name in _ARRAYS}
    arrays |= {f"edges_{axis}": edge for axis, edge in enumerate(surface.edges)}
    arrays["replicates"] = surface.replicates.astype(np.float32)
    for axis, (variance, entries) in enumerate(surface.marginals):
        arrays |= {f"marginal_variance_{axis}": variance, f"marginal_entries_{axis}": entries}
    if surface.subject is not None:
        facts["subject"] = surface.subject.record()
    if surface.basins is not None:
        facts["basin_names"] = list(surface.basins.names)
        arrays |= {"basins": _table(surface.basins.whole), "basins_relative": _table(surface.basins.relative)}
    arrays["facts"] = np.array(json.dumps(facts))
    write_npz(path, arrays)


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
        arrays = limits.arrays(path, _LARGEST)
        facts = json.loads(str(arrays.pop("facts")))
        version = facts["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: not a free-energy surface; expected a file written by 'mlsim fes'") from None
    if version == "mlsim-surface-1":
        raise InputError(
            f"{path}: an earlier version wrote it, without its molecule and without the visits of its basins; "
            "write it again with 'mlsim fes'"
        )
    if version != FORMAT:
        raise InputError(f"{path}: surface format '{version}' is not known; expected '{FORMAT}'")
    try:
        surface = _surface(facts, arrays)
    except KeyError as error:
        raise InputError(f"{path}: the surface lacks {error}; write it again with 'mlsim fes'") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: a damaged surface ({error}); write it again with 'mlsim fes'") from None
    _require_consistent(surface, path)
    return surface


def _surface(facts: dict[str, Any], arrays: dict[str, Any]) -> FreeEnergySurface:
    names = tuple(str(name) for name in facts["cv_names"])
    populations = None
    if "basin_names" in facts:
        populations = Populations(
            tuple(str(name) for name in facts["basin_names"]),
            _occupancies(arrays["basins"]),
            _occupancies(arrays["basins_relative"]),
        )
    axes = range(len(names)) if len(names) > 1 else ()
    return FreeEnergySurface(
        label=str(facts["label"]),
        temperature_K=float(facts["temperature_K"]),
        n_effective=float(facts["n_effective"]),
        statistical_inefficiency=float(facts["statistical_inefficiency"]),
        n_frames=int(facts["n_frames"]),
        n_blocks=int(facts["n_blocks"]),
        n_runs=int(facts["n_runs"]),
        **{name: arrays[name] for name in _ARRAYS},
        cv_names=names,
        edges=tuple(arrays[f"edges_{axis}"] for axis in range(len(names))),
        replicates=arrays["replicates"].astype(np.float64),
        marginals=tuple((arrays[f"marginal_variance_{a}"], arrays[f"marginal_entries_{a}"]) for a in axes),
        basins=populations,
        subject=Subject.from_record(facts["subject"]) if "subject" in facts else None,
        provenance=dict(facts["provenance"]),
        sampled_ps=float("nan") if facts.get("sampled_ps") is None else float(facts["sampled_ps"]),
    )


def _require_consistent(surface: FreeEnergySurface, path: Path) -> None:
    """Raise InputError unless all arrays are of one grid and hold populations."""
    shape = tuple(len(edge) - 1 for edge in surface.edges)
    grids = {
        "probability": surface.probability,
        "variance": surface.variance,
        "entries": surface.entries,
        "replicates": surface.replicates[0] if surface.replicates.ndim else surface.replicates,
        "splits": surface.splits[0] if surface.splits.ndim else surface.splits,
    }
    for name, grid in grids.items():
        if grid.shape != shape:
            raise InputError(f"{path}: {name} has shape {list(grid.shape)}, the edges make {list(shape)}")
    whole = surface.probability
    if not (np.isfinite(whole).all() and (whole >= 0.0).all() and 0.0 < whole.sum() < 1.0 + 1e-6):
        raise InputError(f"{path}: expected populations that sum to 1 or less; the surface is damaged")
    if len(surface.splits) != len(surface.split_shares) or not (
        surface.temperature_K > 0.0 and surface.statistical_inefficiency >= 1.0 and surface.n_effective > 0.0
    ):
        raise InputError(f"{path}: its temperature, frames or parts are not those of a surface; it is damaged")


def _table(found: tuple[Occupancy, ...]) -> NDArray[np.float64]:
    return np.array([dataclasses.astuple(one) for one in found], dtype=np.float64)


def _occupancies(table: NDArray[np.float64]) -> tuple[Occupancy, ...]:
    return tuple(
        Occupancy(float(p), float(v), int(frames), int(entries), int(exits), float(length))
        for p, v, frames, entries, exits, length in table
    )
