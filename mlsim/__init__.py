"""mlsim: molecular dynamics with learned force fields inside OpenMM.

The nouns are imported when they are first used, so that ``import mlsim`` loads neither torch nor openmm.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Molecule": "mlsim.chem.molecule",
    "build_peptide": "mlsim.chem.peptide:build",
    "load_system": "mlsim.chem.catalog",
    "ForceFrames": "mlsim.dataset.frames",
    "RunSettings": "mlsim.md.settings",
    "Run": "mlsim.runs.trajectory",
    "simulate": "mlsim.md.engines.single",
    "ForceFieldArtifact": "mlsim.deploy.artifact",
    "load_forcefield": "mlsim.workflow.force_fields.force_field",
    "FreeEnergySurface": "mlsim.analysis.surfaces.surface",
    "MlsimError": "mlsim.errors",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("mlsim")
        except PackageNotFoundError:
            return "0+unknown"
    if name not in _HOMES:
        raise AttributeError(f"module 'mlsim' has no attribute '{name}'")
    home, _, inner = _HOMES[name].partition(":")
    return getattr(importlib.import_module(home), inner or name)


def __dir__() -> list[str]:
    return sorted(__all__)
