"""Test densities with symmetry, start, exact or stored reference, and the metrics that score samples of them."""

from __future__ import annotations

from collections.abc import Callable

from mlsim.errors import InputError
from mlsim.samplers.targets.analytic import c4, circles, gaussian, spheres
from mlsim.samplers.targets.clusters import dw4, lennard_jones
from mlsim.samplers.targets.stored_reference import Reference, load
from mlsim.samplers.targets.target import Target

_BY_NAME: dict[str, Callable[[], Target]] = {
    "gaussian1": lambda: gaussian(1),
    "gaussian10": lambda: gaussian(10),
    "c4": c4,
    "circles": circles,
    "spheres": spheres,
    "dw4": dw4,
    "lj13": lambda: lennard_jones(13),
    "lj55": lambda: lennard_jones(55),
}


def names() -> tuple[str, ...]:
    """Targets that ``by_name`` knows."""
    return tuple(_BY_NAME)


def by_name(name: str) -> Target:
    """A target by its name.

    Raises
    ------
    InputError
        If there is no such target.
    """
    if name not in _BY_NAME:
        raise InputError(f"target '{name}': expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]()


__all__ = [
    "Reference",
    "Target",
    "by_name",
    "c4",
    "circles",
    "dw4",
    "gaussian",
    "lennard_jones",
    "load",
    "names",
    "spheres",
]
