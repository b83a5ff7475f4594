"""Verbs that make force data in explicit water."""
