"""The README is short, its commands are commands, its links lead somewhere, its numbers are those of the results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from mlsim.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BOOK = ROOT / "benchmarks" / "README.md"
ROOMS = sorted((ROOT / "mlsim").glob("*/README.md"))


def commands(text: str) -> list[list[str]]:
    """Every ``mlsim ...`` of code spans and blocks, as words, without line ends and comments."""
    spans = re.findall(r"`(mlsim [^`]*)`", text) + re.findall(r"^(mlsim .*)$", text, re.MULTILINE)
    return [span.split() for span in spans]


def options_of(words: list[str]) -> set[str] | None:
    """Options of the command that the words name; None if there is no such command."""
    command = typer.main.get_command(app)
    for word in words[1:]:
        inner = getattr(command, "commands", None)
        if inner is None:
            break
        if word not in inner:
            return None
        command = inner[word]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_the_readme_has_at_most_800_words() -> None:
    assert len(README.read_text().split()) <= 800


@pytest.mark.parametrize("path", [README, BOOK, *ROOMS], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_exists_and_has_the_options_that_are_shown(path: Path) -> None:
    shown = [words for words in commands(path.read_text()) if words[1].isalpha() and words[1].islower()]
    assert path != README or len(shown) > 15
    for words in shown:
        known = options_of(words)
        assert known is not None, f"no command: {' '.join(words)}"
        given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known | {"--help"}, f"{' '.join(words)}: no option {sorted(given - known)}"


@pytest.mark.parametrize("path", [README, BOOK, *ROOMS], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name}: {target} is not there"


def test_every_benchmark_that_is_named_exists() -> None:
    for path in (README, BOOK):
        for name in set(re.findall(r"python -m (benchmarks[.\w]+)", path.read_text())):
            module = ROOT / Path(*name.split("."))
            assert module.with_suffix(".py").is_file() or module.is_dir(), name


def test_the_table_of_the_readme_holds_the_numbers_of_the_results() -> None:
    rows = json.loads((ROOT / "benchmarks/results/solvents.json").read_text())["rows"]
    speed = json.loads((ROOT / "benchmarks/results/md_speed.json").read_text())["rows"]
    table = {line.split("|")[1].strip(): line for line in README.read_text().splitlines() if line.startswith("| ")}
    surfaces = {entry["label"]: entry["rmse_corrected_kcal_mol"] for entry in rows[0]["candidates"]}
    means = {
        entry["predictor"]: entry["projected"] for row in rows for entry in row.get("mean_force", {}).get("rows", ())
    }
    steps = {
        row["contender"]: row["us_per_step"]["median"] / 1000.0
        for row in speed
        if row["part"] == "single-alanine-dipeptide" and "contender" in row
    }
    best = min(("hct", "obc1", "obc2", "gbn", "gbn2"), key=lambda name: surfaces[name]["value"])
    for row, label, predictor, contender in (
        ("learned (`issnet-ala2`)", "issnet:issnet-ala2", "issnet-ala2", "issnet, compiled"),
        (f"best GB (`{best}`)", best, best, "obc2, native GBSAOBCForce"),
        ("vacuum", "vacuum", "zero", "vacuum"),
    ):
        error, mean = surfaces[label], means[predictor]
        assert f"| {error['value']:.2f} [{error['low']:.2f}, {error['high']:.2f}] |" in table[row]
        assert f"| {mean['value']:.1f} [{mean['low']:.1f}, {mean['high']:.1f}] |" in table[row]
        assert re.search(rf"\| {steps[contender]:.3f} ", table[row]), row
    assert f"{steps['tip3p']:.2f}" in table["explicit TIP3P"]
