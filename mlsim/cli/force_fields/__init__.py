"""Verbs of a finished force field."""
