"""Paths among the settings of a run, made absolute when they are typed, so that it can be resumed from anywhere.

What counts as typed: an option starts from the working directory, an entry of a settings file from that file's
directory. Names (``alanine-dipeptide``, ``metadynamics``, ``issnet:issnet-ala2``) stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlsim.chem.catalog import absolute_system
from mlsim.errors import InputError, SettingsError
from mlsim.settings import read_yaml


def read_config(path: str | Path) -> dict[str, Any]:
    """Settings of a run from a YAML file, by key, not yet validated; paths start from the directory of the file.

    Raises
    ------
    MissingError, SettingsError
        No such file, not a plain mapping, or one that does not say what is simulated.
    """
    values = read_yaml(path)
    if "system" not in values:
        raise SettingsError(f"{path}: key 'system' is missing; say what to simulate, e.g. system: alanine-dipeptide")
    return absolute(values, Path(path).parent)


def require_same_system(typed: str | None, begun: str, directory: Path) -> None:
    """Refuse to resume a run of the system ``begun`` when another one was typed.

    Raises
    ------
    InputError
    """
    if typed is not None and typed != begun and absolute_system(typed, Path.cwd()) != begun:
        raise InputError(
            f"{directory}: holds a run of '{begun}', got '{typed}'; leave the system out to resume it, or choose "
            "another -o"
        )


def absolute(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """``values`` (settings by key, not yet validated) with every path absolute, from ``base``."""
    changed = dict(values)
    if isinstance(values.get("system"), str):
        changed["system"] = absolute_system(values["system"], base)
    bias = values.get("bias")
    if isinstance(bias, str) and bias.endswith(".npz"):
        changed["bias"] = str((base / bias).resolve())
    if isinstance(values.get("solvent"), str):
        changed["solvent"] = "+".join(_absolute_term(term, base) for term in values["solvent"].split("+"))
    return changed


def _absolute_term(term: str, base: Path) -> str:
    name, colon, argument = term.partition(":")
    is_path = "/" in argument or argument.startswith(".")
    return f"{name}:{(base / argument).resolve()}" if colon and is_path and (base / argument).exists() else term
