"""Conditions: temperature, force field and water that force data belong to.

A potential of mean force holds at one temperature, on top of one force field, for one water. Frames say so in their
provenance, in one of three ways: as plain keys (``temperature_K``, ``force_field``, ``water``), by the settings of the
runs they come from (``runs``), or by the frames that were joined (``joined``). :func:`of` reads all three and refuses
frames that do not say, or whose parts say different things; nothing is assumed.

The one thing derived: runs and labels of this package that were recorded before force field and water were written down
could only use ff14SB and TIP3P. Frames from elsewhere must say all three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from mlsim.errors import InputError
from mlsim.settings import Settings

FORCE_FIELD, WATER = "amber14/protein.ff14SB.xml", "amber14/tip3p.xml"
#: How people write it, e.g. ``TIP3P, 423 molecules``; TIP3P-FB is another model.
_TIP3P = re.compile(r"tip3p(?![\w-])", re.IGNORECASE)


class Conditions(Settings):
    """What a potential of mean force holds for."""

    temperature_K: float = Field(gt=0, description="Temperature, K.")
    force_field: str = Field(description="OpenMM file of the solute's force field.")
    water: str = Field(description="OpenMM file of the water.")


def known(provenance: dict[str, Any]) -> Conditions | None:
    """Conditions of frames with this provenance, or None where it does not say.

    Raises
    ------
    InputError
        If its parts belong to different conditions.
    """
    found = list(_parts(provenance))
    told = [part for part in found if part is not None]
    for part in told[1:]:
        if part != told[0]:
            raise InputError(f"frames of different conditions were put together: {_text(told[0])} and {_text(part)}")
    return told[0] if told and len(told) == len(found) else None


def of(provenance: dict[str, Any], source: str) -> Conditions:
    """Conditions of frames with this provenance.

    Raises
    ------
    InputError
        If it does not say, or its parts say different things.
    """
    found = known(provenance)
    if found is None:
        raise InputError(
            f"{source}: the frames do not say at which temperature and in which water they were made; "
            "make them with mlsim reference, or convert them with these facts"
        )
    return found


def require_alike(provenances: list[dict[str, Any]]) -> None:
    """Refuse frames of different known conditions.

    Raises
    ------
    InputError
        Naming two that differ.
    """
    told = [found for found in map(known, provenances) if found is not None]
    for part in told[1:]:
        if part != told[0]:
            raise InputError(f"cannot join frames of different conditions: {_text(told[0])} and {_text(part)}")


def _parts(provenance: dict[str, Any]) -> Iterator[Conditions | None]:
    for key in ("joined", "runs"):
        if isinstance(provenance.get(key), list):
            for part in provenance[key]:
                yield from _parts(part)
            return
    settings = provenance.get("settings")
    inner = settings if isinstance(settings, dict) else {}
    temperature = provenance.get("temperature_K", inner.get("temperature_K"))
    if not isinstance(temperature, int | float) or not temperature > 0:
        yield None
        return
    potential = provenance.get("potential")
    own = bool(inner) or bool(potential)  # a record of this package
    name = (
        provenance.get("water")
        or (potential or {}).get("water")
        or (potential or {}).get("name")
        or inner.get("solvent")
        or ("tip3p" if own else None)
    )
    force_field = provenance.get("force_field") or (FORCE_FIELD if own else None)
    if name is None or force_field is None:
        yield None
        return
    yield Conditions(
        temperature_K=float(temperature),
        force_field=str(force_field),
        water=WATER if _TIP3P.match(str(name)) else str(name),
    )


def _text(conditions: Conditions) -> str:
    return f"{conditions.temperature_K:g} K, {conditions.force_field}, {conditions.water}"
