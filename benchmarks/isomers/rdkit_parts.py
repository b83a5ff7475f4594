"""RDKit, which is optional (extra ``molecules``): its modules by name, or one line that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from mlsim.errors import DependencyError


def rdkit_part(name: str) -> Any:
    """A module of RDKit, e.g. ``"Chem.AllChem"``.

    Raises
    ------
    DependencyError
        If RDKit is not installed.
    """
    try:
        return importlib.import_module(f"rdkit.{name}")
    except Exception as problem:
        raise DependencyError(f'molecules need RDKit ({problem}): pip install "mlsim[molecules]"') from None
