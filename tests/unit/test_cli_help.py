"""The help of the program: panels, whole summaries, the version."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import mlsim
from mlsim.cli.main import PANELS, app

PROGRAM = get_command(app)
GROUPS = {(): PROGRAM} | {(n,): c for n, c in PROGRAM.commands.items() if hasattr(c, "commands")}


def help_of(*words: str) -> str:
    outcome = CliRunner().invoke(app, [*words, "--help"], terminal_width=80)
    assert outcome.exit_code == 0
    return outcome.stdout


def panels(text: str) -> dict[str, str]:
    """Heading -> what stands under it."""
    return dict(re.findall(r"^(\S.*):\n((?:  .*\n)+)", text, re.MULTILINE))


def test_every_verb_stands_in_one_panel_and_no_panel_is_empty() -> None:
    found = panels(help_of())
    assert list(found) == ["Options", *PANELS]
    listed = [name for head in PANELS for name in re.findall(r"^  (\S+)", found[head], re.MULTILINE)]
    assert sorted(listed) == sorted(PROGRAM.commands)


@pytest.mark.parametrize("words", GROUPS, ids=lambda words: " ".join(words) or "mlsim")
def test_no_summary_is_cut_off_at_80_columns(words: tuple[str, ...]) -> None:
    text = help_of(*words)
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("\n\n")[2]  # the line of usage has its own
    for name, verb in GROUPS[words].commands.items():
        written = " ".join((verb.help or "").split())
        stands = re.split(rf"^  {name}\s+", text, maxsplit=1, flags=re.MULTILINE)[1]
        summary = written.partition(": mlsim ")[0].split(". ")[0].removesuffix(".")
        assert summary.count("(") == summary.count(")")  # an example is left out, never half a sentence
        assert "".join(stands.split()).startswith("".join(summary.split()))  # a line may end behind a hyphen


def test_the_version_is_printed_and_nothing_else() -> None:
    outcome = CliRunner().invoke(app, ["--version"])
    assert (outcome.exit_code, outcome.stdout) == (0, f"mlsim {mlsim.__version__}\n")
