"""``run.json``: what was run, with what, by which command, and how it ended."""

from __future__ import annotations

import json
import platform as host
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from mlsim.errors import InputError, MissingError
from mlsim.runs.restart import write_atomically
from mlsim.settings import Settings

S = TypeVar("S", bound=Settings)

FILE = "run.json"
_PACKAGES = ("mlsim", "openmm", "openmmtorch", "torch", "numpy", "numba", "mdtraj", "pymbar")


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide a result (None: not installed)."""
    found: dict[str, str | None] = {"python": host.python_version(), "system": host.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def command_line() -> str:
    """The command as it was typed (program name without its folder)."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def saved_settings(kind: type[S], directory: Path) -> S:
    """The resolved settings that a run saved (its root seed filled in).

    Raises
    ------
    MissingError
        If there is no run.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        raise MissingError(f"{directory}: no run to resume here (no config.yaml); start it without --resume")
    return kind.from_yaml(path)


def write(directory: Path, record: dict[str, Any]) -> None:
    """Write ``run.json`` atomically."""
    write_atomically(directory / FILE, json.dumps(record, indent=2) + "\n")


def read(directory: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    MissingError, InputError
        Not a run directory, or an unreadable record.
    """
    path = directory / FILE
    if not path.is_file():
        raise MissingError(f"{directory}: not a run directory (no {FILE})")
    try:
        record = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(record).__name__}")
    return record
