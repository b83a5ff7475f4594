"""Images of conformations and ensembles, pairs, augmentations, probes: exact answers and what they refuse."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.chem.catalog import load_system, systems
from mlsim.errors import InputError
from mlsim.repr import densities, images, pairs, probe
from mlsim.repr.encoder import InputSettings


@pytest.fixture(scope="module")
def dipeptide() -> mdtraj.Trajectory:
    entry = next(e for e in systems() if e.directory.name == "alanine-dipeptide")
    return mdtraj.load(str(entry.directory / "structure.pdb"))


def positions(frames: int, atoms: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, (frames, atoms, 3))


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


# ---- maps ----


def test_two_atoms_at_the_cutoff_are_half_in_contact() -> None:
    x = np.array([[[0.0, 0.0, 0.0], [0.45, 0.0, 0.0]]])
    found = images.contact_map(x, size=2)
    assert found[0, 0, 1] == pytest.approx(0.5, abs=1e-6)
    assert found[0, 0, 0] == pytest.approx(1.0, abs=1e-6)


def test_a_distance_equal_to_the_scale_is_one_minus_one_over_e() -> None:
    x = np.array([[[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]])
    assert images.distance_map(x, size=2)[0, 0, 1] == pytest.approx(1 - np.exp(-1), abs=1e-6)


def test_a_stretched_chain_has_extension_one_and_a_contact_zero() -> None:
    x = np.zeros((2, 4, 3))
    x[:, 3, 0] = (3 * images.STRETCHED, images.CONTACT)
    bonds = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    found = images.extension_map(x, bonds, size=4)
    assert found[:, 0, 3].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert (found[:, np.abs(bonds) < 3] == 0).all()


@given(st.integers(2, 30), st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_maps_are_symmetric_bounded_and_blind_to_rotation_and_translation(atoms: int, size: int, seed: int) -> None:
    x = positions(2, atoms, seed)
    turned = x @ rotation(seed) + np.array([1.0, -2.0, 0.5])
    for make in (images.distance_map, images.contact_map):
        found = make(x, size=size)
        assert found.shape == (2, size, size)
        assert found.min() >= 0.0
        assert found.max() <= 1.0
        np.testing.assert_allclose(found, found.swapaxes(1, 2), atol=1e-5)
        np.testing.assert_allclose(found, make(turned, size=size), atol=1e-4)


def test_long_trajectories_are_mapped_frame_by_frame() -> None:
    x = positions(5000, 4)
    found = images.distance_map(x, size=4)
    assert np.array_equal(found[4500:4501], images.distance_map(x[4500:4501], size=4))


def test_resizing_keeps_constants_and_corners() -> None:
    image = np.random.default_rng(0).random((1, 5, 5)).astype(np.float32)
    larger = images.resize(image, 9)
    assert larger[0, ::2, ::2] == pytest.approx(image[0], abs=1e-6)
    assert images.resize(np.full((1, 12, 12), 0.3), 4) == pytest.approx(0.3, abs=1e-6)


def test_padding_makes_square_images() -> None:
    found = images.square(np.ones((2, 1, 3, 5)))
    assert found.shape == (2, 1, 5, 5)
    assert found.sum() == 2 * 15


def test_bonds_are_counted_along_the_shortest_path(dipeptide: mdtraj.Trajectory) -> None:
    top = dipeptide.topology
    counts = images.bond_counts(top)
    index = {(a.residue.name, a.name): a.index for a in top.atoms}
    assert counts[index["ALA", "CA"], index["ALA", "CB"]] == 1
    assert counts[index["ACE", "C"], index["ALA", "C"]] == 3
    assert counts[index["ACE", "CH3"], index["NME", "C"]] == 6
    assert (counts[~np.eye(22, dtype=bool)] > 0).all()


@pytest.mark.parametrize(("atoms", "count"), [("heavy", 10), ("all", 22), ("backbone", 9)])
def test_atoms_are_selected_by_name(dipeptide: mdtraj.Trajectory, atoms: str, count: int) -> None:
    assert len(images.select(dipeptide.topology, atoms)) == count


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("distance-map", (1, 12, 12)),
        ("contact-map", (1, 12, 12)),
        ("extension-map", (1, 12, 12)),
        ("distances", (1, 45)),
        ("torsions", (1, 4)),
    ],
)
def test_inputs_are_prepared_as_the_encoder_says(
    dipeptide: mdtraj.Trajectory, kind: str, shape: tuple[int, ...]
) -> None:
    chosen = InputSettings.parse({"kind": kind, "size": 12})
    assert images.prepare(dipeptide.xyz, dipeptide.topology, chosen).shape == shape


def test_mirror_images_of_a_peptide_differ_in_torsions_only_by_sign(dipeptide: mdtraj.Trajectory) -> None:
    chosen = InputSettings(kind="torsions")
    plain = images.prepare(dipeptide.xyz, dipeptide.topology, chosen)
    mirrored = images.prepare(dipeptide.xyz * [1, 1, -1], dipeptide.topology, chosen)
    np.testing.assert_allclose(mirrored, plain * [1, 1, -1, -1], atol=1e-5)


def test_what_cannot_be_mapped_is_refused(dipeptide: mdtraj.Trajectory) -> None:
    top = dipeptide.topology
    with pytest.raises(InputError, match="at least three 'ca'"):
        images.prepare(dipeptide.xyz, top, InputSettings(kind="distance-map", atoms="ca"))
    with pytest.raises(InputError, match="kind 'array'"):
        images.prepare(dipeptide.xyz, top, InputSettings())
    with pytest.raises(InputError, match="positions"):
        images.prepare(dipeptide.xyz[:, :5], top, InputSettings(kind="distance-map"))
    with pytest.raises(InputError, match="connected by bonds"):
        images.extension_map(positions(1, 3), np.zeros((3, 3), dtype=np.int64), size=3)


def test_shipped_systems_can_all_be_mapped() -> None:
    for entry in systems():
        top = mdtraj.load_topology(str(entry.directory / "structure.pdb"))
        x = np.asarray(load_system(entry.directory).positions)[None]
        found = images.prepare(x, top, InputSettings(kind="extension-map", size=24))
        assert found.shape == (1, 24, 24)
        assert found.std() > 0.1


# ---- densities ----


def test_the_deepest_bin_is_one_and_a_bin_at_the_depth_is_zero() -> None:
    x = np.repeat([0.25, 0.75], [1000, round(1000 * np.exp(-3))])
    found = densities.density2d(x, np.full(len(x), 0.5), bins=2, x_range=(0, 1), y_range=(0, 1), smooth=0.0)
    assert found.max() == 1.0
    assert found[1, 1] == pytest.approx(0.5, abs=0.01)
    assert found[0, 0] == 0.0


def test_a_ramachandran_image_wraps_around() -> None:
    edge = densities.ramachandran(np.full(10, np.pi - 0.01), np.zeros(10), bins=12)
    assert edge[0].max() > 0.5
    shifted = densities.ramachandran(np.full(10, np.pi - 0.01 + 2 * np.pi), np.zeros(10), bins=12)
    np.testing.assert_allclose(edge, shifted, atol=1e-6)


def test_weights_count_as_points() -> None:
    x, y = np.array([0.1, 0.9, 0.9]), np.array([0.1, 0.9, 0.9])
    ranges = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.0)}
    a = densities.density2d(x, y, bins=4, **ranges)
    b = densities.density2d(x[:2], y[:2], bins=4, weights=np.array([1.0, 2.0]), **ranges)
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_windows_start_where_they_say() -> None:
    phi, psi = np.random.default_rng(0).uniform(-3, 3, (2, 100))
    found, starts = densities.ramachandran_windows(phi, psi, window=40, step=20, bins=8)
    assert starts.tolist() == [0, 20, 40, 60]
    assert np.array_equal(found[2], densities.ramachandran(phi[40:80], psi[40:80], bins=8))
    with pytest.raises(InputError, match="windows"):
        densities.ramachandran_windows(phi, psi, window=101, step=1)
    with pytest.raises(InputError, match="no point"):
        densities.density2d(phi, psi, x_range=(10, 11), y_range=(10, 11))


# ---- pairs ----


def test_time_lagged_pairs_never_cross_runs() -> None:
    first, second = pairs.time_lagged(np.array([0, 0, 0, 1, 1]), 1)
    assert first.tolist() == [0, 1, 3]
    assert second.tolist() == [1, 2, 4]
    with pytest.raises(InputError, match="longer than the lag"):
        pairs.time_lagged(np.array([0, 0, 1, 1]), 2)
    with pytest.raises(InputError, match="together"):
        pairs.time_lagged(np.array([0, 1, 0]), 1)


def test_augmentations_repeat_with_the_generator_and_keep_the_range() -> None:
    x = images.distance_map(positions(6, 8), size=8)
    chain = pairs.compose(pairs.noise(0.1), pairs.erase(0.2), pairs.transpose(), pairs.roll(2))
    a, b = (chain(x, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, x)
    assert a.min() >= 0.0
    assert a.max() <= 1.0


def test_noise_keeps_a_symmetric_map_symmetric_and_transposing_it_does_nothing() -> None:
    x = images.distance_map(positions(3, 8), size=8)
    noisy = pairs.noise(0.1)(x, np.random.default_rng(0))
    np.testing.assert_allclose(noisy, noisy.swapaxes(1, 2), atol=1e-6)
    np.testing.assert_allclose(pairs.transpose()(x, np.random.default_rng(0)), x, atol=1e-6)


# ---- probes ----


def clouds(count: int, seed: int, gap: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, count)
    return rng.normal(size=(count, 4)) + gap * np.eye(3, 4)[kind], kind


def test_probes_are_perfect_on_separated_clouds_and_at_chance_without_a_gap() -> None:
    known = (*clouds(200, 0), *clouds(500, 1))
    assert probe.linear_probe(*known) > 0.99
    assert probe.knn(*known) > 0.99
    assert probe.balanced_probe(*known) > 0.99
    nothing = (*clouds(200, 0, 0.0), *clouds(2000, 1, 0.0))
    assert probe.linear_probe(*nothing) == pytest.approx(1 / 3, abs=0.05)


def test_a_constant_column_and_the_scale_do_not_matter() -> None:
    x, y = clouds(100, 0)
    z, t = clouds(100, 1)
    scaled = [np.concatenate([1e3 * v + 7, np.full((100, 1), 3.0)], axis=1) for v in (x, z)]
    assert probe.linear_probe(scaled[0], y, scaled[1], t) == probe.linear_probe(x, y, z, t)


def test_balanced_accuracy_does_not_reward_ignoring_a_rare_class() -> None:
    x = np.zeros((100, 1))
    y = np.repeat([0, 1], [95, 5])
    assert probe.linear_probe(x, y, x, y) == pytest.approx(0.95)
    assert probe.balanced_probe(x, y, x, y) == pytest.approx(0.5)


def test_ridge_recovers_a_linear_map() -> None:
    x, z = np.random.default_rng(0).normal(size=(2, 300, 3))
    weights = np.array([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]])
    assert probe.ridge_probe(x, x @ weights, z, z @ weights, penalty=1e-6) == pytest.approx(1.0, abs=1e-6)


def test_probes_refuse_what_does_not_fit() -> None:
    x, y = clouds(20, 0)
    with pytest.raises(InputError, match="labels"):
        probe.linear_probe(x, y[:3], x, y)
    with pytest.raises(InputError, match="two classes"):
        probe.knn(x, np.zeros(20, dtype=int), x, y)
    with pytest.raises(InputError, match="test features"):
        probe.ridge_probe(x, y, x[:, :2], y)
