"""Contrastive divergence: energies learned from samples alone, with negatives from the package's own samplers."""

from __future__ import annotations
