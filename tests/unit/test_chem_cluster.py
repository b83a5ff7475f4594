"""Clusters of points are molecules like others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.catalog import load_system
from mlsim.chem.cluster import LENGTH_NM, cluster, named
from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError, MissingError
from mlsim.potentials.system import skeleton


def test_a_cluster_survives_a_pdb_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = cluster("five", rng.normal(size=(5, 3)))
    made.to_pdb(tmp_path / "five.pdb")
    for found in (Molecule.from_pdb(tmp_path / "five.pdb"), load_system(tmp_path / "five.pdb")):
        assert found.digest == made.digest
        np.testing.assert_allclose(found.positions, made.positions, atol=1e-4)


def test_points_are_equal_neutral_and_without_bonds_or_constraints() -> None:
    made = load_system("points:7")
    assert set(made.atom_types) == {"PT"}
    assert not made.charges.any()
    assert made.bonds.shape == (0, 2)
    assert skeleton(made, "hbonds", 1.5).getNumConstraints() == 0


def test_named_clusters_are_the_shapes_of_their_targets() -> None:
    points = load_system("lj13").positions / LENGTH_NM
    first, second = np.triu_indices(13, 1)
    lengths = np.linalg.norm(points[first] - points[second], axis=1)
    assert (np.abs(lengths - 1.0) < 1e-9).sum() == 12  # centre to corners
    assert lengths.min() == pytest.approx(1.0)
    assert not load_system("dw4").positions[:, 2].any()
    assert named("alanine") is None


def test_bad_names_and_positions_are_refused() -> None:
    with pytest.raises(InputError, match="points:N"):
        load_system("points:none")
    with pytest.raises(InputError, match="expected shape"):
        cluster("flat", np.zeros((4, 2)))
    with pytest.raises(MissingError):
        load_system("dw5")
