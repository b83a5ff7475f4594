"""Free-energy surfaces: exact densities come back within the stated noise, files come back bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.analysis.surfaces import histogram, noise, pool, surface
from mlsim.errors import InputError, MissingError
from mlsim.units import KJ_PER_KCAL, kT
from tests.unit.torus_density import ALANINE, WIDE

T = 300.0


def _exact() -> np.ndarray:
    return -kT(T) * np.log(ALANINE.probability())


def _flat(count: int, stay: float, seed: int) -> surface.FreeEnergySurface:
    """ALANINE from samples of WIDE."""
    cv = WIDE.chain(count, stay, np.random.default_rng(seed))
    return surface.estimate(cv, T, log_weights=ALANINE.log_density(cv) - WIDE.log_density(cv))


def _rmse(found: surface.FreeEnergySurface) -> float:
    mask = found.populated()
    return float(np.std(found.free_energy[mask] - _exact()[mask]))


def test_frames_in_two_bins_have_the_exact_free_energy_difference() -> None:
    cv = np.concatenate([np.full((300, 1), 0.1), np.full((100, 1), 1.5)])
    found = surface.estimate(cv[np.random.default_rng(0).permutation(400)], T, cv_names=("phi",))
    sampled = found.free_energy[np.isfinite(found.free_energy)]
    np.testing.assert_allclose(sampled, [0.0, kT(T) * np.log(3.0)], atol=1e-12)


def test_the_error_against_the_exact_surface_is_the_stated_noise() -> None:
    found = [_flat(20_000, 0.5, seed) for seed in range(12)]
    true = np.sqrt(np.mean([_rmse(s) ** 2 for s in found]))
    stated = np.sqrt(np.mean([noise.own(s) ** 2 for s in found]))
    assert stated == pytest.approx(true, rel=0.1)
    assert 0.1 < true / KJ_PER_KCAL < 0.25


def test_bin_errors_are_the_scatter_of_repeated_estimates() -> None:
    found = [_flat(20_000, 0.5, seed) for seed in range(20)]
    mask = _exact() - _exact().min() < 2.0 * KJ_PER_KCAL
    energies = np.stack([-kT(T) * np.log(s.probability) for s in found])[:, mask]
    told = np.stack([s.told[mask] for s in found])
    assert told.all(axis=0).mean() > 0.9
    always = told.all(axis=0)
    stated = np.sqrt(np.mean([s.stderr[mask][always] ** 2 for s in found]))
    assert stated == pytest.approx(np.sqrt(energies[:, always].var(axis=0, ddof=1).mean()), rel=0.12)


def test_halves_differ_by_twice_the_noise() -> None:
    found = _flat(50_000, 0.0, 3)
    assert noise.between_parts(found) == pytest.approx(2.0 * noise.own(found), rel=0.1)


def test_a_bias_is_removed_by_its_exponential() -> None:
    cv = WIDE.sample(60_000, np.random.default_rng(4))
    bias = kT(T) * (ALANINE.log_density(cv) - WIDE.log_density(cv))
    found = surface.estimate(cv, T, bias=bias)
    assert found.n_effective < 0.5 * found.n_frames
    assert _rmse(found) / KJ_PER_KCAL < 0.15


def test_unsampled_bins_are_nan_and_count_at_least_the_cutoff_when_filled() -> None:
    found = surface.estimate(ALANINE.sample(3_000, np.random.default_rng(6)), T)
    empty = ~np.isfinite(found.free_energy)
    assert empty.any()
    assert np.isnan(found.stderr[empty]).all()
    filled = found.filled(found.probability[None])[0]
    assert (filled[empty] - filled.min() >= 3.0 * KJ_PER_KCAL - 1e-9).all()
    np.testing.assert_allclose(filled[~empty] - filled.min(), found.free_energy[~empty])


def test_the_marginal_is_the_surface_of_one_variable() -> None:
    cv = ALANINE.chain(5_000, 0.5, np.random.default_rng(7))
    both = surface.estimate(cv, T).marginal("psi")
    alone = surface.estimate(cv[:, 1:], T, cv_names=("psi",))
    np.testing.assert_allclose(both.probability, alone.probability, atol=1e-12)
    assert both.replicates.shape == (200, 24)


def test_a_basin_never_visited_has_no_upper_limit() -> None:
    cv = ALANINE.sample(2_000, np.random.default_rng(14))
    found = surface.estimate(cv[cv[:, 0] < 0.0], T)
    assert found.basin("alphaL").verdict == "never visited"
    assert not found.population("alphaL").bounded
    with pytest.raises(InputError, match="phi and psi of one residue"):
        found.marginal("phi").population("alphaL")


def test_angles_wrap_and_lengths_do_not() -> None:
    edges = (np.linspace(-np.pi, np.pi, 25),)
    angles = np.array([[0.3], [0.3 + 2 * np.pi], [0.3 - 4 * np.pi]])
    assert len(set(histogram.bin_index(angles, edges, ("phi",)))) == 1
    assert histogram.bin_index(np.array([[np.pi]]), edges, ("phi",))[0] == 0
    lengths = np.array([[0.99], [1.0], [1.5], [2.0], [2.01]])
    assert histogram.bin_index(lengths, (np.linspace(1.0, 2.0, 3),), ("rg",)).tolist() == [-1, 0, 1, 1, -1]


def test_frames_outside_given_edges_still_count() -> None:
    cv = np.linspace(0.0, 1.0, 1000)[:, None]
    found = surface.estimate(
        cv[np.random.default_rng(1).permutation(1000)], T, cv_names=("rg",), edges=(np.linspace(0.0, 0.5, 11),)
    )
    assert found.probability.sum() == pytest.approx(0.5, abs=0.01)


def test_saved_surfaces_come_back(tmp_path: Path) -> None:
    found = surface.estimate(ALANINE.chain(3_000, 0.5, np.random.default_rng(8)), T).labelled("x", {"seed": 8})
    found.save(tmp_path / "a.npz")
    back = surface.FreeEnergySurface.load(tmp_path / "a.npz")
    assert (back.label, back.provenance, back.n_frames, back.n_blocks) == ("x", {"seed": 8}, 3_000, found.n_blocks)
    np.testing.assert_array_equal(back.probability, found.probability)
    np.testing.assert_allclose(back.replicates, found.replicates, rtol=1e-6)
    np.testing.assert_allclose(back.stderr, found.stderr, rtol=1e-5, equal_nan=True)
    assert back.basins is not None
    assert found.basins is not None
    np.testing.assert_array_equal(back.basins.value, found.basins.value)


def test_files_that_are_no_surfaces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        surface.FreeEnergySurface.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", facts=np.array({"a": 1}, dtype=object))
    for name in ("text.npz", "other.npz", "pickled.npz"):
        with pytest.raises(InputError, match="not a free-energy surface"):
            surface.FreeEnergySurface.load(tmp_path / name)


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    found = surface.estimate(ALANINE.sample(500, np.random.default_rng(9)), T)
    with pytest.raises(InputError, match=r"ends in \.npz"):
        found.save(tmp_path / "a.dat")
    (tmp_path / "dir.npz").mkdir()
    with pytest.raises(OSError, match="is a directory"):
        found.save(tmp_path / "dir.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["dir.npz"]


def test_pooled_seeds_are_the_surface_of_all_frames_with_the_seeds_as_parts() -> None:
    generator = np.random.default_rng(10)
    parts = [ALANINE.chain(5_000, 0.5, generator) for _ in range(3)]
    pooled = pool.combine([surface.estimate(cv, T) for cv in parts], "all")
    once = surface.estimate(np.concatenate(parts), T, run=np.repeat(np.arange(3), 5_000))
    np.testing.assert_allclose(pooled.probability, once.probability, atol=1e-12)
    np.testing.assert_allclose(pooled.splits, once.splits, atol=1e-12)
    assert noise.own(pooled) == pytest.approx(noise.own(once), rel=1e-9)
    assert pooled.n_runs == 3


def test_surfaces_on_other_grids_are_not_pooled() -> None:
    generator = np.random.default_rng(12)
    cv = ALANINE.sample(500, generator)
    first = surface.estimate(cv, T).labelled("a")
    coarse = surface.estimate(cv, T, settings=surface.SurfaceSettings(bins=12)).labelled("b")
    warm = surface.estimate(cv, 310.0).labelled("c")
    line = surface.estimate(cv[:, :1], T, cv_names=("phi",)).labelled("d")
    for other, message in ((coarse, "same edges"), (warm, "one temperature"), (line, "'d' is a surface of phi")):
        with pytest.raises(InputError, match=message):
            pool.combine([first, other], "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": np.zeros(10), "log_weights": np.zeros(10)}, "got both"),
        ({"bias": np.zeros(9)}, "expected shape"),
        ({"log_weights": np.full(10, np.nan)}, "finite"),
        ({"run": np.zeros(4, dtype=int)}, "run: expected shape"),
        ({"temperature_K": -3.0}, "temperature"),
        ({"cv": np.zeros((10, 3))}, "expected shape"),
        ({"cv": np.zeros((2, 2))}, "at least 4 frames"),
        ({"log_weights": np.array([0.0] + [-5000.0] * 9)}, "do not overlap"),
    ],
)
def test_bad_input_is_one_clear_error(change: dict, message: str) -> None:
    good = {"cv": np.random.default_rng(1).normal(size=(10, 2)), "temperature_K": T}
    with pytest.raises(InputError, match=message):
        surface.estimate(**{**good, **change})


def test_the_same_seed_gives_the_same_bootstrap() -> None:
    cv = ALANINE.sample(1_000, np.random.default_rng(13))
    first, again = surface.estimate(cv, T), surface.estimate(cv, T)
    np.testing.assert_array_equal(first.replicates, again.replicates)
