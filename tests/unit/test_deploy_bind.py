"""Bare evaluation: energies and forces of a molecule, and the doors in front of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mlsim
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import BoundForceField, ForceField, load_forcefield
from mlsim.errors import ArtifactError, InputError, UnphysicalError
from tests.toy_artifact import declared_verified, toy_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceFieldArtifact:
    return declared_verified(toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2))


@pytest.fixture(scope="module")
def bound(artifact: ForceFieldArtifact, ala2: Molecule) -> BoundForceField:
    return load_forcefield(artifact.directory).bind(ala2)


def test_load_by_name_or_directory(
    artifact: ForceFieldArtifact, ala2: Molecule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSIM_PATH", str(artifact.directory.parent))
    by_name = mlsim.load_forcefield("toy").bind(ala2).evaluate(ala2.positions[None])
    by_place = load_forcefield(artifact.directory).bind(ala2).evaluate(ala2.positions[None])
    assert by_name[0] == by_place[0]


def test_shapes_and_types_of_results(bound: BoundForceField, ala2: Molecule) -> None:
    x = np.stack([ala2.positions] * 3).astype(np.float32)
    energies, forces = bound.evaluate(x)
    assert energies.shape == (3,)
    assert forces.shape == (3, 22, 3)
    assert energies.dtype == forces.dtype == np.float64
    assert bound.evaluate(np.zeros((0, 22, 3)))[0].shape == (0,)


def test_auto_is_the_compiled_kernel(bound: BoundForceField) -> None:
    assert bound.backend == "compiled"
    assert bound.precision == "float32"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_positions_are_refused_with_the_place(bound: BoundForceField, ala2: Molecule, bad: float) -> None:
    x = np.stack([ala2.positions] * 2)
    x[1, 3, 2] = bad
    with pytest.raises(InputError, match=r"expected finite numbers.*\[1, 3, 2\]"):
        bound.evaluate(x)


@pytest.mark.parametrize("shape", [(22, 3), (1, 21, 3), (1, 22, 2), (1, 1, 22, 3)])
def test_wrong_shapes_are_refused(bound: BoundForceField, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"positions of alanine-dipeptide \(nm\): expected shape \[\*, 22, 3\]"):
        bound.evaluate(np.zeros(shape))


def test_results_that_are_not_finite_are_refused(bound: BoundForceField, ala2: Molecule) -> None:
    class Broken:
        n_atoms = 22

        def evaluate(self, positions: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
            return np.array([1.0, np.nan]), np.zeros((2, 22, 3))

    with pytest.raises(UnphysicalError, match="frame 1"):
        replace(bound, evaluator=Broken()).evaluate(np.stack([ala2.positions] * 2))


def test_another_molecule_is_refused_unless_transferable(
    artifact: ForceFieldArtifact, ala2: Molecule, tmp_path: Path
) -> None:
    tripeptide = load_system("alanine-tripeptide")
    with pytest.raises(ArtifactError, match=r"made for alanine-dipeptide \(22 atoms\) and not transferable"):
        ForceField(artifact).bind(tripeptide)
    free = ForceField(toy_artifact(tmp_path / "free", ala2, scope="types")).bind(tripeptide)
    assert free.evaluate(tripeptide.positions[None])[1].shape == (1, tripeptide.n_atoms, 3)


def test_types_that_were_not_in_the_training_are_refused(tmp_path: Path, ala2: Molecule) -> None:
    field = ForceField(toy_artifact(tmp_path / "free", ala2, scope="types"))
    with pytest.raises(ArtifactError, match=r"not trained on atom types .*CA.* of chignolin"):
        field.bind(load_system("chignolin"))


def test_unknown_backend_is_refused(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    with pytest.raises(InputError, match="backend: expected one of auto, compiled"):
        ForceField(artifact).bind(ala2, "gpu")  # type: ignore[arg-type]


def test_bare_evaluation_needs_no_torch(artifact: ForceFieldArtifact) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from mlsim.deploy.bind import load_forcefield; from mlsim.chem.catalog import load_system;"
        "m = load_system('alanine-dipeptide');"
        f"load_forcefield({str(artifact.directory)!r}).bind(m).evaluate(m.positions[None]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
