"""Verbs that fit models."""
