"""Potentials: what puts forces into an OpenMM System."""
