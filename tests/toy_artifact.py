"""A small untrained force field for tests: real files, no physics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.card import Description, Verification
from mlsim.deploy.export import export
from mlsim.models.contract import AbstractEnergyModel, create

#: What the toy pretends to have been trained on.
CONDITIONS: dict[str, Any] = {
    "temperature_K": 300.0,
    "force_field": "amber14/protein.ff14SB.xml",
    "water": "amber14/tip3p.xml",
}
CONFIG = {"features": 16, "blocks": 2, "n_radial": 10, "cutoff_nm": 0.8}


def toy_model(seed: int = 1, config: Mapping[str, Any] | None = None) -> AbstractEnergyModel:
    """An ISSNet with random weights, biases included; ``config`` changes its size."""
    model = create("issnet", {**CONFIG, **(config or {})}, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def toy_artifact(
    directory: Path, molecule: Molecule, scope: str = "molecule", baseline: str = "none"
) -> ForceFieldArtifact:
    """Exported, not verified; ``baseline`` is the GB model that it stands on."""
    description = Description.parse(
        {**CONDITIONS, "scope": scope, "training": {"atom_types": sorted(set(molecule.atom_types))}}
    )
    return export(toy_model(config={"baseline": baseline}), molecule, directory, description)


def declared_verified(artifact: ForceFieldArtifact) -> ForceFieldArtifact:
    """As if ``mlsim verify`` had passed, without the seconds that takes."""
    record = Verification(passed=True, files_digest=artifact.digest, date="2026-01-01", versions={}, checks=())
    return artifact.with_verification(record)
