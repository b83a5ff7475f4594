"""Force data: frames with their provenance, block-wise splits, minibatches, converters."""

from __future__ import annotations
