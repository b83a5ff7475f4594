"""Training: force matching and what it needs (the loop, checkpoints, errors of forces with intervals)."""

from __future__ import annotations
