"""mlsim: molecular dynamics with learned force fields inside OpenMM.

The verbs of the road are functions that do what the commands of the same names do, with the same numbers and files;
``help(mlsim.run)`` says what each takes.

    mlsim.build("ACE-ALA-NME", "ala2")
    mlsim.reference(mlsim.ReferenceSettings(system="ala2", ns=1.0), "water")
    mlsim.train("water/frames.h5", "fit", mlsim.IssnetSettings(epochs=10))
    mlsim.export("fit", "forcefields", mlsim.ExportSettings(name="mine", system="ala2"))
    mlsim.verify("forcefields/mine")
    mlsim.run(mlsim.RunSettings(system="ala2", solvent="issnet:mine", ns=1.0), "run")
    mlsim.fes(["run"])

Verbs and nouns are imported when they are first used, so that ``import mlsim`` loads neither torch nor openmm.
"""

from __future__ import annotations

import importlib
from typing import Any

#: Verb -> where it is.
VERBS = {
    "build": "mlsim.workflow.simulation.build",
    "reference": "mlsim.workflow.force_data.reference",
    "train": "mlsim.workflow.training.train_model",
    "export": "mlsim.workflow.force_fields.export_fit",
    "verify": "mlsim.workflow.force_fields.verify_field",
    "run": "mlsim.workflow.simulation.second_stage:run_stages",
    "fes": "mlsim.workflow.analysis.free_energies",
    "compare": "mlsim.workflow.analysis.free_energies",
    "encode": "mlsim.workflow.representations.encode_frames",
}
_NOUNS = {
    "Molecule": "mlsim.chem.molecule",
    "build_peptide": "mlsim.chem.peptide:build",
    "load_system": "mlsim.chem.catalog",
    "ForceFrames": "mlsim.dataset.frames",
    "RunSettings": "mlsim.md.settings",
    "ReferenceSettings": "mlsim.md.settings",
    "IssnetSettings": "mlsim.workflow.training.fit_settings",
    "PopulationsSettings": "mlsim.workflow.training.fit_settings",
    "PeptideSolventSettings": "mlsim.workflow.training.peptide_settings",
    "EbmSettings": "mlsim.workflow.training.fit_settings",
    "EncodeSettings": "mlsim.workflow.representations.encode_settings",
    "ExportSettings": "mlsim.workflow.force_fields.field_settings",
    "AnalysisSettings": "mlsim.workflow.analysis.analysis_settings",
    "CompareSettings": "mlsim.workflow.analysis.analysis_settings",
    "Run": "mlsim.runs.trajectory",
    "simulate": "mlsim.md.engines.single",
    "ForceFieldArtifact": "mlsim.deploy.artifact",
    "load_forcefield": "mlsim.workflow.force_fields.force_field",
    "FreeEnergySurface": "mlsim.analysis.surfaces.surface",
    "MlsimError": "mlsim.errors",
    "add_solvent": "mlsim.deploy.doors.existing_system",
    "calculator": "mlsim.deploy.doors.ase_calculator",
    "solvent": "mlsim.deploy.doors.force_field_file",
}

_HOMES = {**VERBS, **_NOUNS}

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
