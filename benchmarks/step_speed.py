"""Is a step of molecular dynamics as fast as in an earlier revision?

Both revisions run the same command in turns, each in a process of its own, on the Reference platform and one thread:

    mlsim run SYSTEM --solvent SOLVENT --ns NS --platform Reference --guard none --seed 1

A run's speed is simulated time per processor second after its first chunk, so that set-up, compilation and the waiting
on a busy machine do not count. Ratios (second revision / first) are formed inside a round; the claim is on their
median, with the least and the most beside it.

    python -m benchmarks.step_speed 3bb0356 HEAD
    python -m benchmarks.step_speed 3bb0356 HEAD --rounds 15 --seconds 20     # on a quiet machine
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.result import Claim, write_result
from benchmarks.timing import Spread

HERE = Path(__file__).resolve().parents[1]
#: System -> solvent, and nanoseconds of a run that takes about a second of one core.
SYSTEMS = {
    "alanine-dipeptide": ("issnet:issnet-ala2", 0.12),
    "alanine-tripeptide": ("issnet:issnet-ala3", 0.07),
    "chignolin": ("obc2", 0.005),
}
#: The program with a clock of processor time.
PROGRAM = """
import sys, time, types
import mlsim.cli.progress as progress
progress.time = types.SimpleNamespace(monotonic=time.process_time)
from mlsim.cli.main import main
sys.argv = ["mlsim", *sys.argv[1:]]
main()
"""
TOLERANCE = 0.02


def unpacked(revision: str, folder: Path) -> Path:
    """The files of a revision of this repository."""
    folder.mkdir()
    packed = folder.with_suffix(".tar")
    subprocess.run(["git", "-C", str(HERE), "archive", "-o", str(packed), revision], check=True)
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder


def speed(checkout: Path, system: str, seconds: float, place: Path) -> float:
    """Nanoseconds per processor day of one run."""
    solvent, ns = SYSTEMS[system]
    asked = ["--solvent", solvent, "--ns", f"{ns * seconds:g}", "--platform", "Reference", "--guard", "none"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", system, *asked, "--seed", "1", "-o", str(place)],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    found = re.search(r"(\d+) ns/day", done.stdout)
    if done.returncode or found is None:
        raise SystemExit(f"{checkout.name}, {system}: {done.stderr.strip() or done.stdout.strip()}")
    return float(found[1])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("revisions", nargs=2, help="the earlier and the later revision")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each revision and system")
    parser.add_argument("--seconds", type=float, default=4.0, help="about the processor seconds of a run")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    claims = []
    with tempfile.TemporaryDirectory() as scratch:
        checkouts = [unpacked(r, Path(scratch) / f"{n}-{r}") for n, r in enumerate(asked.revisions)]
        for system in SYSTEMS:
            speeds: list[list[float]] = [[], []]
            for number in range(asked.rounds):
                for which in (0, 1) if number % 2 == 0 else (1, 0):
                    place = Path(scratch) / f"{system}-{which}-{number}"
                    speeds[which].append(speed(checkouts[which], system, asked.seconds, place))
            ratios = Spread.of([b / a for a, b in zip(*speeds, strict=True)])
            each = {name: Spread.of(s).record() for name, s in zip(asked.revisions, speeds, strict=True)}
            solvent = SYSTEMS[system][0]
            rows.append({"system": system, "solvent": solvent, "ns_per_day": each, "ratio": ratios.record()})
            print(
                f"{system:20s} {solvent:20s} ratio {ratios.median:.3f} ({ratios.least:.3f} to {ratios.most:.3f})",
                flush=True,
            )
            told = f"speed of a step of {system}, later / earlier revision, median of {asked.rounds}"
            holds = ratios.median >= 1.0 - TOLERANCE
            claims.append(Claim(f"7.3 {system}", told, ratios.median, f">= {1.0 - TOLERANCE:g}", holds))
    write_result("step_speed", (__doc__ or "").split("\n")[0], rows, claims)


if __name__ == "__main__":
    main()
