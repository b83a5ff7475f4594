"""From trajectories to free energies: observables, weighted surfaces with errors, and comparisons with a reference.

The road: ``samples.from_runs`` or arrays, ``surface.estimate``, ``compare.compare``, ``report.write_comparison``.
"""
