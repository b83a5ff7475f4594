"""Molecular dynamics: settings, one session for every engine, integrators, platforms, observers."""
