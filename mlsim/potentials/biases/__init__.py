"""Biases whose energy stands on a grid: what they share, and those on collective variables of choice."""
