"""Every example runs as it is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Arguments that keep an example short; an example that is not listed here fails the test.
SHORT = {
    "first_run.py": ["--ns", "0.02", "-o", "{out}"],
    "encode_trajectory.py": ["--ns", "0.02", "-o", "{out}"],
    "detect_basins.py": ["-o", "{out}"],
    "ask_literature.py": ["-o", "{out}"],
    "collective_variables.py": ["--ns", "0.02", "--steps", "5", "-o", "{out}"],
    "ebm_cluster.py": ["--epochs", "1", "--ps", "2", "-o", "{out}"],
    "rule_strength.py": ["--ns", "0.02", "--epochs", "2", "-o", "{out}"],
    "design_peptide.py": ["--calls", "2", "--ps", "1", "-o", "{out}"],
    "stitch_force_fields.py": ["--epochs", "1", "--frames", "100", "--steps", "2", "-o", "{out}"],
}


def test_every_python_example_is_listed() -> None:
    assert {p.name for p in (ROOT / "examples").glob("*.py")} == set(SHORT)


def test_examples_run(tmp_path: Path) -> None:
    for name, arguments in SHORT.items():
        words = [word.format(out=tmp_path / name) for word in arguments]
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / name), *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        pictures = list((tmp_path / name).rglob("*.png"))
        assert pictures or len(done.stdout.splitlines()) > 5, "an example ends in a picture or a printed table"
