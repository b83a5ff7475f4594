"""Verbs of encoders."""
