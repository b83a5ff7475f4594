"""Frozen settings: YAML in, a content digest out, misspelt keys refused with a suggestion.

Why not plain dicts: a run that silently ignores ``timestep_sf: 2`` is worse than one that does not start.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mlsim import limits
from mlsim.errors import InputError, MissingError, SettingsError
from mlsim.names import suggestion
from mlsim.records import digest_of, shortened

S = TypeVar("S", bound="Settings")

#: Numbers of YAML that everybody reads alike.
_DECIMAL = re.compile(r"[-+]?((0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d+)?|\.(inf|nan))", re.IGNORECASE)


#: What values of YAML raise that have the form of a number, date or truth value and are none.
_MEANINGLESS = (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)
#: Longest reason and longest part of a refused value that a message repeats, characters.
_ECHO = 300


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
            return f"'{key}': {refusal}" if key else str(refusal)  # it says itself what came
        return f"'{key}': {problem['msg']}, got {shortened(problem['input'])}"

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


class _Plain(yaml.SafeLoader):
    """YAML that means what it looks like."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping without a key that stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def decimal(self, node: Any) -> Any:
        """A number in decimal notation."""
        if not _DECIMAL.fullmatch(node.value):
            raise yaml.MarkedYAMLError(
                None,
                None,
                f"'{node.value}' is a number that is not decimal; write it plainly, or in quotes",
                node.start_mark,
            )
        kind = node.tag.rsplit(":", 1)[-1]
        return self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Plain.add_constructor(f"tag:yaml.org,2002:{_kind}", _Plain.decimal)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises
    ------
    MissingError
        If there is no such file.
    SettingsError
        If the file is not YAML or not a mapping, or reads otherwise than it looks: a key given twice, a number that is
        not decimal (YAML takes 010 as 8 and 1:30 as 90).
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a YAML file")
    try:
        text = limits.text(path, limits.SETTINGS)
        limits.require_nodes(yaml.parse(text, yaml.SafeLoader))
        values = yaml.load(text, _Plain)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, *_MEANINGLESS) as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "in ")
        raise SettingsError(f"{path}: not valid YAML: {reason[:_ECHO]}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values
