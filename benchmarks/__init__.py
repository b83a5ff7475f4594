"""Benchmarks and experiments: each file is a command that answers one question (``python -m benchmarks.NAME``)."""
