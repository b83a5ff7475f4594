"""The committee that travels with a force field: its spread is that of its networks, and a run reports it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.atoms_of_model import torch_energy
from mlsim.deploy.card import Description
from mlsim.deploy.export import export, member
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.deploy.travelling_committee import FILE, MemberSet, threshold_of
from mlsim.deploy.verify import verified, verify
from mlsim.errors import ArtifactError
from mlsim.files import write_npz
from mlsim.md.settings import RunSettings
from mlsim.models.contract import create
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of
from mlsim.workflow.simulation.run import run
from tests.toy_artifact import CONDITIONS


def network(molecule: Molecule, seed: int) -> TransferableISSNet:
    domain = domain_of([solvent_atoms(molecule)])
    config = {"form": "screened+additive", "features": 8, "blocks": 1, "n_radial": 6, **domain}
    model = create("transferable", config, seed=seed)
    assert isinstance(model, TransferableISSNet)
    torch.nn.init.normal_(model.head_out.weight, 0.0, 0.3, generator=torch.Generator().manual_seed(seed))
    return model


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceFieldArtifact:
    members = MemberSet("transferable", tuple(member(network(ala2, seed)) for seed in (1, 2, 3)), 1e-3)
    description = Description.parse({**CONDITIONS, "scope": "types"})
    directory = tmp_path_factory.mktemp("fields") / "sure"
    return verified(export(network(ala2, 9), ala2, directory, description, committee=members))


def test_the_spread_is_that_of_the_networks_forces(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    x = np.stack([ala2.positions, ala2.positions + 0.003 * np.random.default_rng(1).normal(size=(22, 3))])
    forces = []
    for seed in (1, 2, 3):
        r = torch.tensor(x, requires_grad=True)
        (slope,) = torch.autograd.grad(torch_energy(network(ala2, seed).double(), ala2)(r).sum(), r)
        forces.append(-slope.numpy())
    expected = np.sqrt(np.stack(forces).var(axis=0, ddof=1).mean(axis=(1, 2)))
    members = artifact.members()
    assert members is not None
    assert members.bind(ala2).distance(x) == pytest.approx(expected, rel=1e-4)


def test_the_members_are_part_of_the_verification(artifact: ForceFieldArtifact) -> None:
    checks = {check.name: check for check in verify(artifact).checks}
    assert checks["committee: forces, compiled float32"].passed


def test_a_run_reports_the_spread_without_being_asked(
    artifact: ForceFieldArtifact, ala2: Molecule, tmp_path: Path
) -> None:
    settings = RunSettings.parse(
        {"system": "alanine-dipeptide", "solvent": f"issnet:{artifact.directory}", "ns": 0.0004, "report_ps": 0.04,
         "platform": "Reference", "seed": 1}
    )  # fmt: skip
    run(settings, tmp_path / "run")
    with open(tmp_path / "run" / "guard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = json.loads((tmp_path / "run" / "run.json").read_text())["observers"]["guard"]
    spreads = np.array([float(row["force_spread_kJ_mol_nm"]) for row in rows])
    assert len(rows) == found["frames"] == 10
    assert found["fraction_outside"] == 1.0  # the threshold of this toy is a thousandth
    assert found["worst_distance"] == pytest.approx(spreads.max(), rel=1e-5)


def test_peptides_count_alike_in_the_threshold() -> None:
    many, few = np.full(99_900, 1.0), np.linspace(2.0, 3.0, 1000)
    assert threshold_of([many, few]) == pytest.approx(2.998, abs=0.002)
    assert threshold_of([np.arange(1.0, 1001.0)]) == pytest.approx(999.0, abs=1.0)


@pytest.mark.parametrize("damage", ["cut", "pickle", "few", "nan", "table"])
def test_a_damaged_committee_is_one_line(
    artifact: ForceFieldArtifact, ala2: Molecule, tmp_path: Path, damage: str
) -> None:
    path, members = tmp_path / FILE, artifact.members()
    assert members is not None
    arrays = members.arrays()
    if damage == "few":
        arrays["members"] = np.array(2)
    if damage == "nan":
        arrays["1/weights/embedding"] = np.full_like(arrays["1/weights/embedding"], np.nan)
    if damage == "table":
        arrays["2/slopes"] = np.full_like(arrays["2/slopes"], np.inf)
    if damage == "pickle":
        np.savez(path, **{**arrays, "kind": np.array([object()])}, allow_pickle=True)  # type: ignore[arg-type]
    else:
        write_npz(path, arrays)
    content = path.read_bytes()[: -200 if damage == "cut" else None]
    with pytest.raises(ArtifactError, match=r"committee\.npz: not a committee"):
        MemberSet.read(content, path)


def test_a_peptide_that_the_members_do_not_know_is_refused(artifact: ForceFieldArtifact) -> None:
    members = artifact.members()
    assert members is not None
    with pytest.raises(ArtifactError):
        members.bind(load_system("chignolin"))
