"""Experiments on the accuracy of a learned solvent: each file is one command that answers one question."""
