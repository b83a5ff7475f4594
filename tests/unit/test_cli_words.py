"""Help texts of options begin with what the option is: a noun phrase, never an order or a sentence about habits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from mlsim.cli.main import app

#: First words of orders and of sentences without a noun; "Use every n-th frame" does not say what n is.
ORDERS = {"Use", "Run", "Write", "Keep", "Stop", "Begin", "Check", "Continue", "Print", "Give", "Leave", "Do", "Make"}
UNITS = {"ps", "ns", "K", "nm", "fs", "Da", "mol", "rad", "hours", "minutes"}
#: A switch is an order by nature.
SWITCHES = {"resume", "version", "help"}


def texts(command: Any, path: str = "mlsim") -> Iterator[tuple[str, str]]:
    """(verb --option, help text) of every option below a command."""
    for parameter in command.params:
        if parameter.opts[0].startswith("-") and parameter.name not in SWITCHES:
            yield f"{path} --{parameter.name}", parameter.help or ""
    for name, inner in getattr(command, "commands", {}).items():
        yield from texts(inner, f"{path} {name}")


@pytest.mark.parametrize(("option", "text"), [pytest.param(o, t, id=o) for o, t in texts(get_command(app))])
def test_a_help_text_says_what_the_option_is(option: str, text: str) -> None:
    assert text, f"{option} has no help text"
    assert text.split()[0].rstrip(":,.") not in ORDERS
    unit = option.rpartition("_")[2]
    if unit in UNITS:
        assert re.search(rf"\b{unit}\b", text), text
