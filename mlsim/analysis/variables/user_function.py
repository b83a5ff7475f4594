"""Collective variables that are not of this package's frames alone: a function of the user, a column of a table.

``package.module:function`` is called as ``function(trajectory)`` with an ``mdtraj.Trajectory`` (positions in nm, whole
molecule) and returns one number per frame. Attributes ``unit`` ("nm", "rad") and ``periodic`` (an angle in rad) of the
function are written behind its name, ``package.module:function@rad``: a stored surface says what its axis is without
any code being imported. Modules are found where Python finds them, and in the working directory.

``column:NAME@UNIT`` is a column of a table of another program; it cannot be computed from positions.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsim.analysis.observables import REGISTRY, CollectiveVariable, Observable
from mlsim.errors import DependencyError, InputError
from mlsim.names import suggestion
from mlsim.shapes import Floats

if TYPE_CHECKING:
    import mdtraj


def _declared(observable: Observable) -> Observable:
    """The same function with its unit written behind its name."""
    if "@" in observable.selection:
        return observable
    function = _imported(observable)
    unit = "rad" if getattr(function, "periodic", False) else str(getattr(function, "unit", ""))
    return Observable(observable.name, f"{observable.selection}@{unit}") if unit else observable


def _of_function(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    import mdtraj

    function = _imported(observable)
    try:
        values = function(mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), topology))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"collective variable '{observable.text}': {type(error).__name__}: {reason}") from error
    found = np.asarray(values)
    if found.shape != (len(positions),) or found.dtype.kind not in "fiub" or not np.isfinite(found).all():
        raise InputError(
            f"collective variable '{observable.text}': expected one finite number for each of {len(positions)} frames, "
            f"got shape {list(found.shape)} of {found.dtype}"
        )
    return found.astype(np.float64)


def _imported(observable: Observable) -> Callable[[Any], Any]:
    module, _, name = observable.selection.partition("@")[0].partition(":")
    here = os.getcwd()
    sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        hint = suggestion(module, REGISTRY.names())
        raise DependencyError(
            f"collective variable '{observable.text}': neither a known name ({hint + ' ' if hint else ''}known: "
            f"{', '.join(REGISTRY.names())}) nor a function that can be imported ({type(error).__name__}: {reason})"
        ) from None
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise InputError(f"collective variable '{observable.text}': expected a function, got {type(found).__name__}")
    function: Callable[[Any], Any] = found
    return function


def _no_column(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    raise InputError(
        f"collective variable '{observable.text}': a column of a table; expected a table (PLUMED, CSV), got positions"
    )


FUNCTION = CollectiveVariable(
    periodic=False,
    unit="",
    values=_of_function,
    selection="a function, e.g. package.module:function",
    form=r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(@[\w/^-]+)?",
    stored=_declared,
)
COLUMN = CollectiveVariable(
    periodic=False,
    unit="",
    values=_no_column,
    selection="the name of a column of a table, e.g. column:d1",
    form=r"[^@]+(@[\w/^-]+)?",
)
