"""Fitting one solvent to force data of many peptides."""
