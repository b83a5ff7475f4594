"""A transferable solvent as a force field: exported once, verified, run on other peptides, refused where it must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import ForceField
from mlsim.deploy.card import Description
from mlsim.deploy.export import export
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.deploy.verify import verify
from mlsim.errors import ArtifactError
from mlsim.models.contract import create
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of
from tests.toy_artifact import CONDITIONS


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceFieldArtifact:
    """Made for alanine dipeptide, knowing the atoms of another peptide too."""
    domain = domain_of([solvent_atoms(ala2), solvent_atoms(load_system("alanine-tripeptide"))])
    model = create("transferable", {"form": "screened+additive", "features": 16, "n_radial": 8, **domain}, seed=4)
    assert isinstance(model, TransferableISSNet)
    torch.nn.init.normal_(model.head_out.weight, 0.0, 0.3, generator=torch.Generator().manual_seed(1))
    directory = tmp_path_factory.mktemp("fields") / "any-peptide"
    return export(model, ala2, directory, Description.parse({**CONDITIONS, "scope": "types"}))


def test_every_way_to_compute_it_passes_the_verification(artifact: ForceFieldArtifact) -> None:
    report = verify(artifact)
    assert report.passed, [check for check in report.checks if not check.passed]
    names = {check.name for check in report.checks}
    assert {"compiled: forces, float32", "gradient: compiled, float64", "model.pt: energy, batched"} <= names
    assert verify(artifact, load_system("alanine-tripeptide")).passed


def test_it_serves_another_molecule_made_of_atoms_it_knows(artifact: ForceFieldArtifact) -> None:
    other = load_system("alanine-tripeptide")
    field = ForceField(artifact)
    x = other.positions[None]
    energy, forces = field.bind(other, "compiled").evaluate(x)
    exact, gradient = field.bind(other, "eager", "float64").evaluate(x)
    assert energy == pytest.approx(exact, rel=1e-5)
    np.testing.assert_allclose(forces, gradient, atol=1e-4 * np.abs(gradient).max())


def test_a_molecule_with_atoms_it_does_not_know_is_refused_by_name(artifact: ForceFieldArtifact) -> None:
    field, other = ForceField(artifact), build("ACE-SER-NME")
    for backend in ("compiled", "eager"):
        with pytest.raises(ArtifactError, match=r"ACE-SER-NME: atoms of kinds .*O2\(C4"):
            field.bind(other, backend)


def test_a_backend_that_it_does_not_have_is_refused(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    with pytest.raises(ArtifactError, match="no static form of kind 'transferable'"):
        ForceField(artifact).bind(ala2, "static")
