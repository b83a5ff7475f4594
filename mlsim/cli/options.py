"""Options of a verb, generated from the fields of its settings: name, unit, default and help stand once, in the field.

::

    field        timestep_fs: float = Field(4.0, gt=0, description="Time step, fs.")
    YAML         timestep_fs: 2
    option       --timestep-fs 2        Time step, fs. [default: 4]

A verb is a function with the parameter ``given``; :func:`generated` puts one option per field in its place and hands
over, by key, what the user gave and nothing else, so that the settings judge it: a default stands in the field alone.
An option may have a shorter spelling beside its key (``--temperature`` for ``temperature_K``).
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from mlsim.errors import InputError
from mlsim.settings import Settings, read_yaml

#: What the user gave, by key of the settings.
Given = dict[str, Any]
#: Parameter of a verb that the options take the place of.
PLACE = "given"
#: Option of a YAML file with settings, for the verbs that have one.
FILE = "settings"


def generated(
    settings: type[Settings],
    *,
    leave: Collection[str] = (),
    short: Mapping[str, str] | None = None,
    reading: Mapping[str, Callable[[str], Any]] | None = None,
    file: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of a verb: its parameter ``given`` becomes one option per field of ``settings``.

    Parameters
    ----------
    settings : class of Settings
        Every field has a description, which is the help text, with the unit.
    leave : collection of str
        Fields that the verb takes in another way, or that another setting decides.
    short : mapping of str to str
        Field -> a second, shorter spelling of its option.
    reading : mapping of str to function
        Field -> how the text of the option is read, where its type alone does not say.
    file : str, optional
        Help text of an option ``--settings`` with a YAML file of the same keys; options count more than the file.

    Returns
    -------
    decorator
    """
    second, readers = short or {}, reading or {}
    unknown = ({*leave, *second, *readers}) - set(settings.model_fields)
    if unknown:
        raise ValueError(f"{settings.__name__} has no fields {sorted(unknown)}")
    fields = {name: field for name, field in settings.model_fields.items() if name not in leave}

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        signature, hints = inspect.signature(verb), get_type_hints(verb, include_extras=True)
        parameters = []
        for parameter in signature.parameters.values():
            if parameter.name != PLACE:
                parameters.append(parameter.replace(annotation=hints[parameter.name]))
                continue
            parameters += [_option(name, field, second.get(name), readers) for name, field in fields.items()]
            if file is not None:
                parameters.append(_parameter(FILE, Path, typer.Option("--settings", help=file)))

        @functools.wraps(verb)
        def _call(**values: Any) -> Any:
            path = values.pop(FILE) if file is not None else None
            given: Given = {} if path is None else read_yaml(path)
            for name in fields:
                value = values.pop(name)
                if value is not None:
                    given[name] = _read(settings, name, value, readers)
            return verb(**values, **{PLACE: given})

        _call.__dict__["__signature__"] = signature.replace(parameters=_in_order(parameters))
        _call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return _call

    return decorate


def help_text(field: FieldInfo) -> str:
    """Description of a field, with its default where it has one."""
    description = field.description or ""
    if field.is_required() or field.default is None or "[default:" in description:
        return description
    default = field.default
    if isinstance(default, float):
        default = f"{default:g}"
    elif isinstance(default, tuple):
        default = " ".join(map(str, default))
    return description if default == "" else f"{description} [default: {default}]"


def _option(
    name: str, field: FieldInfo, short: str | None, readers: Mapping[str, Callable[[str], Any]]
) -> inspect.Parameter:
    words = ["--" + name.replace("_", "-"), *([] if short is None else [short])]
    kind = str if name in readers or _may_be_none(field) else _kind(field.annotation)
    return _parameter(name, kind, typer.Option(*words, help=help_text(field)))


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _in_order(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """All by keyword: a verb is called by the parser alone, which names every argument."""
    return [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]


def _alternatives(annotation: Any) -> list[Any]:
    """Types of a union without None, or the one type."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for part in get_args(annotation) if part is not type(None)]
    return [annotation]


def _kind(annotation: Any) -> Any:
    """Type that the parser reads: a number, a path, a list of them, or text for everything else."""
    found = _alternatives(annotation)
    if len(found) != 1:
        return str
    if get_origin(found[0]) is tuple:
        return list[_kind(get_args(found[0])[0])]  # type: ignore[misc]
    return found[0] if found[0] in (int, float, Path) else str


def _may_be_none(field: FieldInfo) -> bool:
    """May None be asked for, in place of another default?"""
    return field.default is not None and type(None) in get_args(field.annotation)


def _read(settings: type[Settings], name: str, value: Any, readers: Mapping[str, Callable[[str], Any]]) -> Any:
    if name in readers:
        return readers[name](value)
    field = settings.model_fields[name]
    if not _may_be_none(field) or not isinstance(value, str):
        return value
    if value == "none":
        return None
    kind = _kind(field.annotation)
    try:
        return kind(value)
    except ValueError:
        raise InputError(f"--{name.replace('_', '-')}: expected a number or 'none', got '{value}'") from None
