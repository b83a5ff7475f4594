"""Encoders by name: kinds (classes), shipped ones (directories in ``pretrained/``), and whatever a user points to.

``load_encoder(source)`` finds the class by itself. ``source`` is, in this order: a directory written by
``Encoder.save``; a directory in transformers' layout (``config.json``), whose ``model_type`` decides; the name of a
shipped encoder; a name on the Hugging Face hub (``owner/name``), which transformers fetches or finds in its cache.

A class is imported when it is first asked for, so that listing encoders loads neither torch nor transformers. Other
packages add theirs by entry points of the group ``mlsim.encoders`` (see :mod:`mlsim.names`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsim import limits
from mlsim.errors import ArtifactError, DependencyError, MissingError
from mlsim.names import Registry
from mlsim.repr.shipped_encoders import CONFIG, directory_of

if TYPE_CHECKING:
    from mlsim.repr.encoder import Encoder


def _is_encoder(found: Any) -> bool:
    from mlsim.repr.encoder import Encoder

    return isinstance(found, type) and issubclass(found, Encoder)


ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder kind",
    "mlsim.encoders",
    {
        "beit": "mlsim.repr.beit.beit_encoder:BeitEncoder",
        "hsic": "mlsim.repr.hsic.hsic_encoder:HsicEncoder",
        "quip": "mlsim.repr.quip.quip_encoder:QuipEncoder",
    },
    _is_encoder,
    "a subclass of mlsim.repr.Encoder",
    extra="repr",
)
#: transformers' ``model_type`` -> kind
_FOREIGN = {"beit": "beit", "roberta": "quip"}


def register(kind: str, target: str) -> None:
    """Make an encoder class known in this process; ``target`` is ``"package.module:Class"``, imported at first use.

    Raises
    ------
    InputError
        If the kind is taken.
    """
    ENCODERS.register(kind, target)


def kinds() -> tuple[str, ...]:
    """Names of the known encoder classes."""
    return ENCODERS.names()


def encoder_type(kind: str) -> type[Encoder]:
    """The class registered as ``kind``.

    Raises
    ------
    InputError
        If there is none.
    DependencyError
        If a package it needs is not installed; the message says what to install.
    """
    return ENCODERS.get(kind)


def load_encoder(source: str | Path, *, device: str = "cpu") -> Encoder:
    """Load any encoder; the class follows from its files.

    Parameters
    ----------
    source : str or Path
        Directory of a saved encoder, directory in transformers' layout, ``.pth`` file of the original BEiT, shipped
        name, or hub name ``owner/name``.
    device : str
        Where to compute.

    Raises
    ------
    MissingError
        If there is no such encoder.
    ArtifactError
        If its files are damaged or of no known kind.
    DependencyError
        If an optional package is missing.
    """
    foreign = Path(source) / "config.json"
    if Path(source).suffix == ".pth":
        return encoder_type("beit").from_pretrained(source, device=device)
    if not (Path(source) / CONFIG).is_file() and foreign.is_file():
        return _foreign_type(_text(foreign), foreign).from_pretrained(source, device=device)
    try:
        directory = directory_of(source)
    except MissingError:
        if isinstance(source, Path) or Path(source).exists() or str(source).count("/") != 1 or str(source)[0] in "./~":
            raise
        return _from_hub(str(source), device)
    from mlsim.repr.encoder import read_record

    return encoder_type(str(read_record(directory)["kind"])).from_pretrained(directory, device=device)


def _text(path: Path) -> str:
    try:
        return limits.text(path, limits.SETTINGS)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _foreign_type(text: str, where: Any) -> type[Encoder]:
    try:
        model = json.loads(text).get("model_type")
    except (ValueError, AttributeError, RecursionError):
        raise ArtifactError(f"{where}: expected transformers' configuration (JSON)") from None
    if model not in _FOREIGN:
        raise ArtifactError(f"{where}: model_type '{model}' is no encoder known here; known: {', '.join(_FOREIGN)}")
    return encoder_type(_FOREIGN[model])


def _from_hub(name: str, device: str) -> Encoder:
    try:
        from transformers.utils import cached_file
    except Exception:
        raise DependencyError(f"encoder '{name}' needs transformers: pip install \"mlsim[repr]\"") from None
    try:
        path = cached_file(name, "config.json")
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingError(f"no encoder '{name}': not a directory, not shipped, and the hub says: {reason}") from None
    return _foreign_type(_text(Path(str(path))), name).from_pretrained(name, device=device)
