"""Independent surfaces of one ensemble taken together.

What: ``combine`` pools surfaces from independent seeds: p = sum_i s_i p_i with s_i the share of the frames. Every seed
is an independent part, so that the spread between seeds is the noise of the pool (``noise.own``).
``require_same_grid`` is the check before two surfaces may be put side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlsim.analysis import observables
from mlsim.analysis.surfaces.basin_populations import Populations
from mlsim.analysis.surfaces.subject import Subject, require_one_ensemble
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.errors import InputError
from mlsim.shapes import Floats


def combine(surfaces: Sequence[FreeEnergySurface], label: str) -> FreeEnergySurface:
    """Pool independent surfaces of the same ensemble (seeds); each becomes one independent part.

    Populations are averaged with the number of frames as weight; replicate r of the pool averages replicate r of each.

    Raises
    ------
    InputError
        If there are none, their CVs, edges or temperatures differ, they are of different molecules or potentials, or
        one run is in two of them.
    """
    if not surfaces:
        raise InputError("combine: expected at least one surface, got none")
    if len(surfaces) == 1:
        return replace(surfaces[0], label=label)
    first = surfaces[0]
    surfaces = [first, *(on_grid_of(first, other) for other in surfaces[1:])]
    subject = _one_subject(surfaces)
    share = np.array([s.n_frames for s in surfaces], dtype=np.float64)
    share /= share.sum()
    rows = min(len(s.replicates) for s in surfaces)

    def mean(arrays: Sequence[Floats]) -> Floats:
        return np.asarray(np.tensordot(share, np.stack(arrays), axes=1))

    known = [s.basins for s in surfaces if s.basins is not None]
    probability = mean([s.probability for s in surfaces])
    marginals = []
    for axis in range(len(first.marginals)):
        each = [s.marginal(first.cv_names[axis]) for s in surfaces]
        marginals.append((_variance(each, share), np.sum([s.entries for s in each], axis=0)))
    return FreeEnergySurface(
        label=label,
        cv_names=first.cv_names,
        edges=first.edges,
        temperature_K=first.temperature_K,
        probability=probability,
        replicates=mean([s.replicates[:rows] for s in surfaces]),
        splits=np.stack([s.probability for s in surfaces]),
        split_shares=share,
        n_frames=sum(s.n_frames for s in surfaces),
        n_effective=sum(s.n_effective for s in surfaces),
        statistical_inefficiency=max(s.statistical_inefficiency for s in surfaces),
        n_blocks=sum(s.n_blocks for s in surfaces),
        n_runs=sum(s.n_runs for s in surfaces),
        variance=_variance(surfaces, share),
        entries=np.sum([s.entries for s in surfaces], axis=0),
        marginals=tuple(marginals),
        basins=Populations.pooled(known, share) if len(known) == len(surfaces) else None,
        subject=subject,
        provenance={"pooled": [s.label for s in surfaces], "parts": [s.provenance for s in surfaces]},
        sampled_ps=sum(s.sampled_ps for s in surfaces),
    )


def _one_subject(surfaces: Sequence[FreeEnergySurface]) -> Subject | None:
    """What all of them are of; surfaces of no molecule pool among themselves only."""
    parts = [(f"surface {k + 1} ({s.label})", s.subject) for k, s in enumerate(surfaces) if s.subject is not None]
    if not parts:
        return None
    if len(parts) < len(surfaces):
        raise InputError("combine: some surfaces say of what molecule they are and some do not; they cannot be pooled")
    return require_one_ensemble([(name, subject) for name, subject in parts])


def _variance(surfaces: Sequence[FreeEnergySurface], share: Floats) -> Floats:
    """Variance of the pooled bins; where a part never saw a bin, the spread between parts counts if it is larger."""
    variances = np.stack([s.variance for s in surfaces])
    parts = np.stack([s.probability for s in surfaces])
    within = np.tensordot(np.square(share), variances, axes=1)
    spread = np.square(parts - np.tensordot(share, parts, axes=1))
    between = np.tensordot(np.square(share), spread, axes=1) * len(parts) / (len(parts) - 1)
    unseen = (variances <= 0.0).any(axis=0)
    return np.where(unseen, np.maximum(within, between), within)


def on_grid_of(first: FreeEnergySurface, other: FreeEnergySurface) -> FreeEnergySurface:
    """``other`` under the CV names of ``first`` (phi:2 and phi may be one); InputError unless both have one grid."""
    require_same_grid(first, other)
    return other if other.cv_names == first.cv_names else replace(other, cv_names=first.cv_names)


def require_same_grid(first: FreeEnergySurface, other: FreeEnergySurface) -> None:
    """Raise InputError unless both surfaces have the same CVs, bin edges and temperature."""
    if not observables.equivalent(first.cv_names, other.cv_names):
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
