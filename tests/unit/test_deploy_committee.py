"""Committees: means and spreads against exact ones, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import ForceField, load_forcefield
from mlsim.deploy.card import Description
from mlsim.deploy.committee import Committee
from mlsim.deploy.export import export
from mlsim.errors import InputError
from tests.toy_artifact import CONDITIONS, declared_verified, toy_model


def member(molecule: Molecule, directory: Path, seed: int, temperature_K: float = 300.0) -> ForceField:
    description = Description.parse({**CONDITIONS, "temperature_K": temperature_K})
    artifact = export(toy_model(seed), molecule, directory / f"toy-{seed}", description, 256)
    declared_verified(artifact)
    return load_forcefield(directory / f"toy-{seed}")


@pytest.fixture(scope="module")
def fields(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> tuple[ForceField, ...]:
    place = tmp_path_factory.mktemp("forcefields")
    return tuple(member(ala2, place, seed) for seed in (1, 2, 3))


def test_mean_and_spread_are_those_of_the_members(ala2: Molecule, fields: tuple[ForceField, ...]) -> None:
    x = ala2.positions + 0.01 * np.random.default_rng(1).normal(size=(5, 22, 3))
    found = Committee.of(fields, ala2).evaluate(x)
    single = [field.bind(ala2).evaluate(x) for field in fields]
    energies = np.array([e - e.mean() for e, _ in single])
    forces = np.array([f for _, f in single])
    np.testing.assert_allclose(found.energies, energies.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.energy_spread, energies.std(axis=0, ddof=1), atol=1e-9)
    np.testing.assert_allclose(found.forces, forces.mean(axis=0), atol=1e-9)
    per_component = ((forces - forces.mean(axis=0)) ** 2).sum(axis=0) / 2
    np.testing.assert_allclose(found.force_spread, np.sqrt(per_component.mean(axis=(1, 2))), atol=1e-9)


def test_spreads_do_not_depend_on_place_and_orientation(ala2: Molecule, fields: tuple[ForceField, ...]) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    x = ala2.positions + 0.01 * np.random.default_rng(1).normal(size=(3, 22, 3))
    committee = Committee.of(fields[:2], ala2)
    before, after = committee.evaluate(x), committee.evaluate(x @ turn + 1.0)
    np.testing.assert_allclose(after.force_spread, before.force_spread, rtol=1e-4)
    np.testing.assert_allclose(after.forces, before.forces @ turn, atol=2e-3)


def test_one_member_twins_and_other_temperatures_are_refused(
    ala2: Molecule, fields: tuple[ForceField, ...], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least two"):
        Committee.of(fields[:1], ala2)
    with pytest.raises(InputError, match="one twice"):
        Committee.of((fields[0], fields[0]), ala2)
    with pytest.raises(InputError, match=r"temperature_K: 300\.0, 310\.0"):
        Committee.of((fields[0], member(ala2, tmp_path, 4, 310.0)), ala2)


def test_the_trained_region_travels_with_the_artifact(ala2: Molecule, tmp_path: Path) -> None:
    from mlsim.dataset.region import TrainedRegion

    region = TrainedRegion(ala2.digest, 22, np.array([[1, 18]]), np.ones(1), np.ones((1, 1), np.float32), 2.5)
    artifact = export(toy_model(), ala2, tmp_path / "guarded", Description(**CONDITIONS), 64, region)
    found = ForceFieldArtifact.read(artifact.directory).region()
    assert found is not None
    assert found.threshold == 2.5
    assert "guard.npz" in artifact.card.files
