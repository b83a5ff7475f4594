"""Symmetry groups, and their integrals in closed form."""
