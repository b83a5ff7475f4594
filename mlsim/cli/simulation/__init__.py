"""Verbs that build and simulate."""
