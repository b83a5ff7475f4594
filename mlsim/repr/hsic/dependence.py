"""Do two things depend on each other, in any way? HSIC as a permutation test.

Under independence the pairing of x and y is arbitrary, so that HSIC with y re-paired is one more draw from the null
distribution. With R re-pairings, and the observed value counted among them,

    p = (1 + #{HSIC_perm >= HSIC_observed}) / (1 + R)

is a valid p-value for any kernel and any number of samples.

Why ``cyclic``: frames of a trajectory are correlated in time, and re-pairing single frames destroys that correlation
and makes independent series look dependent. Shifting one series against the other by a random number of frames keeps
both.

Symbols: R ``permutations``.

References: Gretton et al., NIPS 2008; Chwialkowski & Gretton, ICML 2014 (shifts for time series).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from mlsim.errors import InputError
from mlsim.repr.hsic.estimators import centred
from mlsim.repr.hsic.random_features import kernel_named, squared_distances
from mlsim.seeds import numpy_stream
from mlsim.shapes import Floats, require_shape


@dataclass(frozen=True)
class DependenceTest:
    """Outcome: the statistic, its value over the mean of the null, and the p-value."""

    statistic: float
    relative: float
    p_value: float


def hsic_test(
    x: Any,
    y: Any,
    *,
    kernel: str = "imq",
    pairing: Literal["frames", "cyclic"] = "cyclic",
    permutations: int = 499,
    seed: int = 0,
) -> DependenceTest:
    """Test the independence of paired samples.

    Parameters
    ----------
    x, y : array [N] or [N, d]
        Numbers; classes go in as one column per class (0 or 1).
    kernel : str
        ``imq``, ``rbf`` or ``linear``; the scale is the median distance.
    pairing : {"frames", "cyclic"}
        Re-pairings of the null: ``cyclic`` shifts one of the two in time and is right for consecutive frames of a
        trajectory as for independent samples; ``frames`` shuffles and is right for independent samples only (on
        correlated series it calls most independent pairs dependent).
    permutations : int
        Re-pairings R; the smallest possible p-value is 1 / (1 + R).
    seed : int
        Root seed of the re-pairings.

    Returns
    -------
    DependenceTest

    Raises
    ------
    InputError
        If the two are not paired, or fewer than 8 or more than 5,000 samples come (memory is N^2; take every k-th).
    """
    first, second = (_columns(values, name) for values, name in ((x, "x"), (y, "y")))
    n = len(first)
    if len(second) != n or not 8 <= n <= 5000:
        raise InputError(f"hsic_test: expected 8 to 5000 paired samples, got {n} and {len(second)}; thin them out")
    if permutations < 1:
        raise InputError(f"permutations: expected at least 1, got {permutations}")
    generator = numpy_stream(seed, "hsic.test")
    k, l = (centred(_gram(values, kernel)).numpy() for values in (first, second))
    observed = float((k * l).sum())
    null = np.empty(permutations)
    for r in range(permutations):
        if pairing == "frames":
            order = generator.permutation(n)
        else:
            order = np.roll(np.arange(n), int(generator.integers(1, n)))
        null[r] = (k * l[np.ix_(order, order)]).sum()
    reached = int((null >= observed * (1 - 1e-12)).sum())
    mean = float(null.mean())
    relative = observed / mean if mean > 0 else float("nan")
    return DependenceTest(observed / n**2, relative, (1 + reached) / (1 + permutations))


def _columns(values: Any, name: str) -> Floats:
    array = np.asarray(values)
    return require_shape(array[:, None] if array.ndim == 1 else array, (None, None), f"{name} [N, d]")


def _gram(values: Floats, kernel: str) -> torch.Tensor:
    """Gram matrix at the median distance."""
    rows = torch.tensor(values, dtype=torch.float64)
    squared = squared_distances(rows, rows)
    positive = squared[squared > 0]
    scale = float(positive.median().sqrt()) if len(positive) else 1.0
    return kernel_named(kernel).gram(rows, rows, scale)
