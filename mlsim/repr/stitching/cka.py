"""Linear centred kernel alignment: how alike are two sets of features, up to rotation and scale?

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))     with linear kernels; one for Y = X Q a + b, Q orthogonal

It needs no training, and that is its limit: it says whether two representations look alike, not whether one can be used
in place of the other. Random early layers score high. It stands beside the penalties to be compared with them.

Reference: Kornblith et al., ICML 2019, arXiv:1905.00414.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlsim.errors import InputError
from mlsim.repr.hsic.estimators import from_features, from_grams


@torch.no_grad()
def linear_cka(x: Tensor, y: Tensor) -> float:
    """CKA of paired activations [n, ...], [n, ...]; every axis but the first is flattened.

    Raises
    ------
    InputError
        If they are not paired.
    """
    if len(x) != len(y) or len(x) < 3:
        raise InputError(f"CKA: expected at least 3 paired activations, got {len(x)} and {len(y)}")
    first, second = (t.flatten(1).double() for t in (x, y))
    if max(first.shape[1], second.shape[1]) > len(first):
        k, l = (t @ t.mT for t in (first, second))
        cross, own = from_grams(k, l), (from_grams(k, k), from_grams(l, l))
    else:
        cross, own = from_features(first, second), (from_features(first, first), from_features(second, second))
    size = float(torch.sqrt(own[0] * own[1]))
    return float(cross) / size if size > 0 else 0.0
