"""What the verbs of molecular dynamics are asked for, in one place that loads neither torch nor OpenMM.

    new_settings(RunSettings, "run.yaml", {"ns": 2.0})           a file, or a system; what is given counts more
    continued_settings(RunSettings, directory, {"ns": 4.0})      those that a run saved, with what is to change

The settings themselves are those of :mod:`mlsim.md.settings`; :func:`listening` turns Ctrl-C and SIGTERM into a request
to write a checkpoint and stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mlsim.errors import InputError, SettingsError
from mlsim.locks import lock as locked
from mlsim.md.settings import ExchangeSettings, LabelSettings, ReferenceSettings, RunSettings
from mlsim.md.signals import Progress, StopRequest, listening
from mlsim.runs.restart import saved_settings
from mlsim.settings import Settings

__all__ = [
    "COMMAND_LINE",
    "ExchangeSettings",
    "LabelSettings",
    "Progress",
    "ReferenceSettings",
    "RunSettings",
    "StopRequest",
    "continued_settings",
    "listening",
    "locked",
    "new_settings",
    "saved_settings",
]

S = TypeVar("S", bound=Settings)

#: Source of settings, as errors name it.
COMMAND_LINE = "command line"
#: Keys that a run cannot do without, and how they are given.
_NEEDED = {"ns": "say how long to run, e.g. --ns 1", "temperatures_K": "e.g. --temperatures 300:450:8"}


def new_settings(kind: type[S], system: str | None, given: Mapping[str, Any]) -> S:
    """Settings of a new run.

    Parameters
    ----------
    kind : class of Settings
    system : str or None
        A system, or a YAML file of settings (``.yaml``, ``.yml``) that names one.
    given : mapping
        Values that count more than those of a file.

    Raises
    ------
    InputError
        Without a system.
    MissingError, SettingsError
        If the file is not there or not valid, or a key is missing, unknown or out of range.
    """
    if system is None:
        raise InputError("expected a system or a config file, got none; e.g. alanine-dipeptide")
    from mlsim.workflow.simulation.places import absolute, read_config

    config, here = system.endswith((".yaml", ".yml")), Path.cwd()
    values = (read_config(system) if config else absolute({"system": system}, here)) | absolute(dict(given), here)
    for key, advice in _NEEDED.items():
        if key in kind.model_fields and key not in values:
            raise SettingsError(f"key '{key}' is missing; {advice}")
    return kind.parse(values, system if config else COMMAND_LINE)


def continued_settings(kind: type[S], directory: Path, given: Mapping[str, Any], system: str | None = None) -> S:
    """Settings that the run in ``directory`` saved, with those of ``given`` in their place; no wall time is kept.

    Raises
    ------
    MissingError
        If there is no run.
    InputError
        If ``system`` is named and the run is of another one.
    SettingsError
        If a value is out of range.
    """
    from mlsim.workflow.simulation.places import absolute, require_same_system

    saved = saved_settings(kind, directory).model_dump()
    require_same_system(system, saved["system"], directory)
    return kind.parse({**saved, "max_hours": None, **absolute(dict(given), Path.cwd())}, COMMAND_LINE)
