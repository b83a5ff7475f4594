"""Lists of verbs in a help text: in panels, each summary in full, wrapped and never cut off.

A summary is the first sentence of a verb's help; the example after it (``...: mlsim run SYSTEM``) stands in the help of
the verb only.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

#: Heading of verbs without a panel.
NO_PANEL = "Commands"
#: Longer than any summary: keeps the argument parser from cutting it.
WHOLE = 10_000


class PanelGroup(TyperGroup):
    """Group of verbs that prints one list per panel, in the order in which panels first occur."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the panels of the visible verbs."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or NO_PANEL
                panels.setdefault(panel, []).append((name, summary(command)))
        first = max((len(name) for rows in panels.values() for name, _ in rows), default=0)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(first), text) for name, text in rows])


def summary(command: Any) -> str:
    """First sentence of a verb's help, without the example that follows a colon."""
    text: str = command.get_short_help_str(WHOLE)
    return text.partition(": mlsim ")[0]
