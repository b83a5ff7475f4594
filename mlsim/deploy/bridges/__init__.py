"""Bridges: a learned force field as an OpenMM force, as TorchScript, and on many copies of its molecule."""
