"""Options generated from the fields of settings: name, unit, default and help stand once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from mlsim.cli.options import Given, generated, help_text
from mlsim.errors import InputError
from mlsim.settings import Settings


class Cooking(Settings):
    """Settings of a test."""

    heat_K: float = Field(350.0, gt=0, description="Temperature, K.")
    minutes: int | None = Field(None, description="Time, minutes.")
    error: float | None = Field(6.0, description="Error, kJ/mol; none for any.")
    dish: str = Field("soup", description="Name of the dish.")
    book: Path | None = Field(None, description="Path of a book.")
    spices: tuple[str, ...] = Field((), description="Spices.")


def asked(*words: str) -> dict[str, Any]:
    """What a verb is given for words of the command line."""
    found: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command()
    @generated(Cooking, leave=("dish",), short={"heat_K": "--heat"}, file="Path of a YAML file.")
    def cook(pot: str, *, given: Given) -> None:
        found.append({**given, "pot": pot})

    outcome = CliRunner().invoke(app, ["big", *words], catch_exceptions=True)
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return found[0]


def test_only_what_is_given_is_handed_over() -> None:
    assert asked() == {"pot": "big"}


def test_key_and_option_are_the_same_word_and_a_shorter_one_stands_beside_it() -> None:
    assert asked("--heat-K", "300") == asked("--heat", "300") == {"heat_K": 300.0, "pot": "big"}
    assert asked("--minutes", "3", "--book", "a.txt") == {"minutes": 3, "book": Path("a.txt"), "pot": "big"}
    assert asked("--spices", "salt", "--spices", "dill")["spices"] == ["salt", "dill"]


def test_none_is_a_word_where_the_field_allows_it() -> None:
    assert asked("--error", "none")["error"] is None
    assert asked("--error", "2")["error"] == 2.0
    with pytest.raises(InputError, match="expected a number or 'none', got 'few'"):
        asked("--error", "few")


def test_options_count_more_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("heat_K: 280\nminutes: 4\n")
    given = asked("--settings", str(tmp_path / "c.yaml"), "--minutes", "9")
    assert given == {"heat_K": 280, "minutes": 9, "pot": "big"}


def test_a_help_text_is_the_description_with_the_default() -> None:
    assert help_text(Cooking.model_fields["heat_K"]) == "Temperature, K. [default: 350]"
    assert help_text(Cooking.model_fields["minutes"]) == "Time, minutes."


def test_a_field_that_does_not_exist_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="has no fields"):
        generated(Cooking, leave=("dihs",))
