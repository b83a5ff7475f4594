"""BERTScore: how alike two sentences are, token by token.

    R = mean_i max_j  a_i . b_j      P = mean_j max_i  a_i . b_j      F = 2 P R / (P + R)

a_i and b_j are unit-norm token representations of one layer (Zhang et al. 2020, arXiv:1904.09675). The layer matters:
the QuIP paper uses layer 20 of 24 for its model and 17 for RoBERTa; ``by_layer`` gives all, as features for a
classifier of paraphrases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.repr.quip.quip_encoder import QuipEncoder


def similarity(encoder: QuipEncoder, first: Sequence[str], second: Sequence[str], layer: str = "last") -> NDArray:
    """BERTScore F of pairs of sentences.

    Parameters
    ----------
    first, second : sequences of n texts
    layer : str

    Returns
    -------
    float64 array [n]
        1 for equal sentences.

    Raises
    ------
    InputError
        If the numbers of texts differ.
    """
    if len(first) != len(second):
        raise InputError(f"similarity: expected as many first as second texts, got {len(first)} and {len(second)}")
    left, right = (encoder.token_states(texts, layer) for texts in (first, second))
    return np.array([bert_score(a.vectors, b.vectors) for a, b in zip(left, right, strict=True)])


def by_layer(encoder: QuipEncoder, first: Sequence[str], second: Sequence[str]) -> NDArray:
    """BERTScore F [n, layers] of pairs at every layer, embeddings first."""
    return np.stack([similarity(encoder, first, second, layer) for layer in encoder.layers], axis=1)


def bert_score(a: NDArray, b: NDArray) -> float:
    """F of two sets of token vectors [n, d] and [m, d]; 0 if precision and recall do not have a positive sum."""
    unit_a, unit_b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    cosine = unit_a.astype(np.float64) @ unit_b.astype(np.float64).T
    recall, precision = cosine.max(1).mean(), cosine.max(0).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0
