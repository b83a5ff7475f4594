"""Rows of a benchmark, computed once: kept by key in a JSON file of the work directory, and intervals over seeds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


class Rows:
    """Rows by key in one JSON file; a row that is there is not computed again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row ``key``, made if missing."""
        if key not in self.rows:
            began = time.process_time()
            self.rows[key] = {"row": key, **make(), "cpu_s": round(time.process_time() - began, 1)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.rows, indent=1))
            print({k: v for k, v in self.rows[key].items() if not isinstance(v, list)}, flush=True)
        return self.rows[key]


def interval(values: Sequence[float]) -> list[float]:
    """Mean, and 95 % t interval over seeds."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else float("nan")
    return [round(mean, 4), round(mean - half, 4), round(mean + half, 4)]
