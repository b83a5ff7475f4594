"""Frozen settings: YAML in, a content digest out, misspelt keys refused with a suggestion.

Why not plain dicts: a run that silently ignores ``timestep_sf: 2`` is worse than one that does not start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mlsim.errors import InputError, MissingError, SettingsError
from mlsim.names import suggestion
from mlsim.records import digest_of

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings object: immutable, unknown keys forbidden, fields carry their unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls: type[S], values: dict[str, Any], source: str = "settings") -> S:
        """Validate ``values``; on failure raise one readable line.

        Raises
        ------
        SettingsError
            With the key, what was expected, what came, and a suggestion for a misspelt key.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(f"{source}: " + "; ".join(cls._explain(e) for e in error.errors())) from None

    @classmethod
    def _explain(cls, problem: Any) -> str:
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = list(cls.model_fields)
            hint = suggestion(str(problem["loc"][-1]), known) or "known keys: " + ", ".join(known)
            return f"unknown key '{key}'; {hint}"
        if problem["type"] == "missing":
            return f"key '{key}' is missing"
        if isinstance(refusal := problem.get("ctx", {}).get("error"), InputError):
            return f"'{key}': {refusal}"  # it says itself what came
        return f"'{key}': {problem['msg']}, got {problem['input']!r}"

    @classmethod
    def from_yaml(cls: type[S], path: str | Path) -> S:
        """Read settings from a YAML file (a mapping at top level)."""
        return cls.parse(read_yaml(path), str(path))

    def to_yaml(self) -> str:
        """The complete settings as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def digest(self) -> str:
        """Content digest (first 16 hex digits of SHA-256 over canonical JSON)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return digest_of(text)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises
    ------
    MissingError
        If there is no such file.
    SettingsError
        If the file is not YAML or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a YAML file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path}: not valid YAML: {reason}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values
