"""The form of a benchmark result: question, command, machine, rows, claims; written to benchmarks/results/NAME.json."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlsim.records import versions

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Claim:
    """One measured statement; ``holds`` false is an honest entry."""

    id: str
    claim: str
    value: float
    bound: str
    holds: bool


def machine() -> dict[str, Any]:
    """Processor, cores and package versions."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {"processor": model, "cores": os.cpu_count(), "versions": versions()}


def _arguments() -> list[str]:
    """The command line without scratch directories, which decide nothing."""
    words = sys.argv[1:]
    for option in ("--work", "--pool"):
        if option in words:
            k = words.index(option)
            words = words[:k] + words[k + 2 :]
    return words


def write_result(name: str, question: str, rows: Sequence[Any], claims: Sequence[Claim], part: str = "") -> Path:
    """Write ``benchmarks/results/NAME.json`` (``repr.beit`` becomes ``repr-beit.json``) and print the claims.

    ``part`` is appended to the file name where one command is run once per system.
    """
    content = {
        "question": question,
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *_arguments()]),
        "machine": machine(),
        "rows": list(rows),
        "claims": [{**asdict(c), "value": float(c.value), "holds": bool(c.holds)} for c in claims],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{'-'.join([*name.split('.'), *([part] if part else [])])}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    for claim in claims:
        print(f"{claim.id}  {claim.claim}: {claim.value:.4g} ({claim.bound}) {'holds' if claim.holds else 'MISSED'}")
    return path
