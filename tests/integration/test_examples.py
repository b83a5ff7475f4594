"""Every example runs as it is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Arguments that keep an example short; an example that is not listed here fails the test.
SHORT = {
    "first_run.py": ["--ns", "0.02", "-o", "{out}"],
    "encode_trajectory.py": ["--ns", "0.02", "-o", "{out}"],
    "encode_densities.py": ["--ns", "0.05", "-o", "{out}"],
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


@pytest.mark.parametrize("name", sorted(SHORT))
def test_an_example_runs_and_ends_in_a_picture_or_a_table(name: str, tmp_path: Path) -> None:
    words = [word.format(out=tmp_path / name) for word in SHORT[name]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    pictures = list((tmp_path / name).rglob("*.png"))
    assert pictures or len(done.stdout.splitlines()) > 5, "an example ends in a picture or a printed table"
