"""Stein kernels with a symmetry built in, and what they say about a set of points."""
