"""Names of a package that are imported when they are first used, so that importing the package stays instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def member(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What ``package.name`` is; for a module's ``__getattr__``.

    Parameters
    ----------
    package : str
        Dotted name, for the message.
    homes : mapping
        Name -> module that defines it.
    name : str

    Raises
    ------
    AttributeError
        If there is no such name.
    """
    if name not in homes:
        raise AttributeError(f"module '{package}' has no attribute '{name}'")
    return getattr(importlib.import_module(homes[name]), name)
