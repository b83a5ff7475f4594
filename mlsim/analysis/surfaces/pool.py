"""Independent surfaces of one ensemble taken together.

What: ``combine`` pools surfaces from independent seeds: p = sum_i s_i p_i with s_i the share of the frames. Every seed
is an independent part, so that the spread between seeds is the noise of the pool (``noise.own``).
``require_same_grid`` is the check before two surfaces may be put side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlsim.analysis.surfaces.surface import FreeEnergySurface, Populations
from mlsim.errors import InputError
from mlsim.shapes import Floats


def combine(surfaces: Sequence[FreeEnergySurface], label: str) -> FreeEnergySurface:
    """Pool independent surfaces of the same ensemble (seeds); each becomes one independent part.

    Populations are averaged with the number of frames as weight; replicate r of the pool averages replicate r of each.

    Raises
    ------
    InputError
        If there are none, or their CVs, edges or temperatures differ.
    """
    if not surfaces:
        raise InputError("combine: expected at least one surface, got none")
    if len(surfaces) == 1:
        return replace(surfaces[0], label=label)
    first = surfaces[0]
    for other in surfaces[1:]:
        require_same_grid(first, other)
    share = np.array([s.n_frames for s in surfaces], dtype=np.float64)
    share /= share.sum()
    rows = min(len(s.replicates) for s in surfaces)

    def mean(arrays: Sequence[Floats]) -> Floats:
        return np.asarray(np.tensordot(share, np.stack(arrays), axes=1))

    populations = None
    known = [s.basins for s in surfaces if s.basins is not None]
    if len(known) == len(surfaces):
        populations = Populations(
            known[0].names,
            mean([b.value for b in known]),
            mean([b.replicates[:rows] for b in known]),
            np.stack([b.value for b in known]),
        )
    return FreeEnergySurface(
        label=label,
        cv_names=first.cv_names,
        edges=first.edges,
        temperature_K=first.temperature_K,
        probability=mean([s.probability for s in surfaces]),
        replicates=mean([s.replicates[:rows] for s in surfaces]),
        splits=np.stack([s.probability for s in surfaces]),
        split_shares=share,
        n_frames=sum(s.n_frames for s in surfaces),
        n_effective=sum(s.n_effective for s in surfaces),
        statistical_inefficiency=max(s.statistical_inefficiency for s in surfaces),
        n_blocks=sum(s.n_blocks for s in surfaces),
        n_runs=sum(s.n_runs for s in surfaces),
        basins=populations,
        provenance={"pooled": [s.label for s in surfaces], "parts": [s.provenance for s in surfaces]},
    )


def require_same_grid(first: FreeEnergySurface, other: FreeEnergySurface) -> None:
    """Raise InputError unless both surfaces have the same CVs, bin edges and temperature."""
    if first.cv_names != other.cv_names:
        raise InputError(
            f"'{other.label}' is a surface of {' '.join(other.cv_names)}, '{first.label}' of {' '.join(first.cv_names)}"
        )
    shapes = [tuple(len(e) - 1 for e in s.edges) for s in (first, other)]
    if shapes[0] != shapes[1] or any(not np.allclose(a, b) for a, b in zip(first.edges, other.edges, strict=True)):
        raise InputError(
            f"'{other.label}' has bins {list(shapes[1])}, '{first.label}' {list(shapes[0])}; expected the same edges"
        )
    if abs(first.temperature_K - other.temperature_K) > 0.01:
        raise InputError(
            f"'{other.label}' is at {other.temperature_K:g} K, '{first.label}' at {first.temperature_K:g} K; "
            "surfaces are compared at one temperature"
        )
