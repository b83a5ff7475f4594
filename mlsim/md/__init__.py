"""Molecular dynamics in OpenMM: potentials, the run verb, biases, restart, reference data."""
