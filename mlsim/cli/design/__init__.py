"""Verbs that search for peptides."""
