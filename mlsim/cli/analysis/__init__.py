"""Verbs that judge runs and samplers."""
