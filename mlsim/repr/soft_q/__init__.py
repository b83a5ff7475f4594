"""Soft Q-learning for sequences: a causal language model learns to write what a reward function likes."""

from __future__ import annotations
