"""Benchmarks of ``mlsim.repr``: ``python -m benchmarks.repr.NAME`` writes ``benchmarks/results/repr-NAME.json``.

Each calls ``benchmarks.result.write_result("repr.NAME", question, rows, claims)``.
"""

from __future__ import annotations
