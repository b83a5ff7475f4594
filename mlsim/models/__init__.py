"""Learned energies: torch modules from positions, atom types and charges to an energy in kJ/mol."""

from __future__ import annotations
