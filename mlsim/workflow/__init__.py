"""Whole tasks made of the rooms below: runs by name, references, campaigns."""
