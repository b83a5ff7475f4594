"""Jensen-Shannon divergence of histograms, nats (0 for equal ones, ln 2 for those that share no bin)."""

from __future__ import annotations

import numpy as np

from mlsim.shapes import Floats


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence, nats, of histograms [..., bins]; what a total lacks of 1 is an extra, outer bin."""
    p, q = _completed(p), _completed(q)
    middle = 0.5 * (p + q)
    return 0.5 * (_relative_entropy(p, middle) + _relative_entropy(q, middle))


def pairwise(parts: Floats) -> Floats:
    """JS divergence between all pairs of histograms [S, bins, ...] -> [S, S], nats."""
    flat = parts.reshape(len(parts), -1)
    return np.asarray(jensen_shannon(flat[:, None, :], flat[None, :, :]))


def _completed(p: Floats) -> Floats:
    rest = np.clip(1.0 - p.sum(axis=-1, keepdims=True), 0.0, None)
    return np.concatenate([p, np.where(rest > 1e-9, rest, 0.0)], axis=-1)


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    ratio = np.where(p > 0.0, p, 1.0) / np.where(p > 0.0, q, 1.0)
    return np.asarray((p * np.log(ratio)).sum(axis=-1))
