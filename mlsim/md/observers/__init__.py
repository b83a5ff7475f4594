"""Observers: what looks at, or acts on, a running simulation."""
