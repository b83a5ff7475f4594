"""How correlated frames are: the statistical inefficiency of the slowest basin, or of the slowest CV without basins.

Basins with few round trips have no correlation time of their own to be told; they count where they hold much weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlsim.analysis import observables, uncertainty
from mlsim.analysis.occupancy import LEAST_TRIPS
from mlsim.analysis.surfaces.basin_populations import Populations
from mlsim.shapes import Floats, Ints

#: Weight of basins with few round trips above which they decide how long the data are.
_MUCH = 0.25


def inefficiency(cv: Floats, cv_names: Sequence[str], weights: Floats, runs: Ints, known: Populations | None) -> float:
    """Frames per independent sample of the slowest basin, or of the slowest CV where there are no basins.

    Parameters
    ----------
    cv : [F, C]
        Collective variables, rad or nm.
    weights, runs : [F]
        Weight and run of each frame.
    known : Populations or None
        Populations of the basins.
    """
    if known is not None:
        rare = [found for found in known.whole if found.frames and found.round_trips < LEAST_TRIPS]
        most = sum(found.value for found in rare) > _MUCH
        counted = [f for f in known.whole if f.round_trips >= LEAST_TRIPS or (most and f.frames)]
        if counted:
            return max(1.0, 2.0 * len(cv) / max(1.0, min(found.length for found in counted)))
    series: list[Floats] = []
    for column, name in zip(cv.T, cv_names, strict=True):
        series += [np.cos(column), np.sin(column)] if observables.parse(name).periodic else [column]
    return max(uncertainty.statistical_inefficiency(values, weights, runs) for values in series)
