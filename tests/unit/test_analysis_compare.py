"""Comparisons: exact limits, unbiased noise correction, and no reward for missing a basin."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.analysis import compare as comparing
from mlsim.analysis.compare import compare, jensen_shannon
from mlsim.analysis.surfaces import basins, surface
from mlsim.errors import InputError
from mlsim.units import KJ_PER_KCAL, kT
from tests.unit.torus_density import ALANINE, SHIFTED, WIDE, Torus

T = 300.0


def _flat(target: Torus, count: int, stay: float, generator: np.random.Generator) -> surface.FreeEnergySurface:
    cv = WIDE.chain(count, stay, generator)
    return surface.estimate(cv, T, log_weights=target.log_density(cv) - WIDE.log_density(cv))


def _energy(target: Torus) -> np.ndarray:
    return -kT(T) * np.log(target.probability())


def test_js_of_identical_is_zero_and_of_disjoint_is_ln_2() -> None:
    p, q = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.25, 0.75])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, q) == pytest.approx(np.log(2.0), rel=1e-12)
    assert jensen_shannon(p, q) == jensen_shannon(q, p)


def test_weight_outside_the_edges_enters_the_js() -> None:
    inside, outside = np.array([0.5, 0.5]), np.array([0.0, 0.0])
    assert jensen_shannon(inside, outside) == pytest.approx(np.log(2.0))


def test_a_surface_is_at_distance_zero_from_itself() -> None:
    one = surface.estimate(ALANINE.chain(5_000, 0.5, np.random.default_rng(1)), T)
    row = compare(one, [one]).rows[0]
    assert row.rmse.value == 0.0
    assert row.rmse_corrected.value == 0.0
    assert row.js.value == 0.0
    assert row.rmse_corrected.high > 0.0


def test_the_distance_does_not_depend_on_the_zero_of_energy_or_on_row_order() -> None:
    generator = np.random.default_rng(2)
    a, b, c = (surface.estimate(t.sample(20_000, generator), T) for t in (ALANINE, SHIFTED, ALANINE))
    both, alone = compare(a, [b, c]), compare(a, [c])
    assert both.rows[1].rmse.value == alone.rows[0].rmse.value
    mask, _ = comparing.bins_told(a, b)
    shifted = a.free_energy[mask] - b.free_energy[mask] + 7.0
    assert both.rows[0].rmse.value == pytest.approx(np.std(shifted), rel=1e-12)


def test_noise_correction_is_unbiased_for_samples_of_one_density() -> None:
    generator = np.random.default_rng(3)
    excess, noises, covered = [], [], []
    for _ in range(40):
        result = compare(_flat(ALANINE, 20_000, 0.5, generator), [_flat(ALANINE, 20_000, 0.5, generator)])
        row = result.rows[0]
        excess.append(row.rmse.value**2 - row.noise_used**2)
        noises.append(row.noise_used**2)
        covered.append(row.rmse_corrected.low == 0.0)
    error = np.std(excess) / np.sqrt(len(excess))
    assert abs(np.mean(excess)) < 3.0 * error + 0.05 * np.mean(noises)
    assert np.mean(covered) >= 0.9


def test_corrected_rmse_covers_a_known_distance() -> None:
    generator = np.random.default_rng(4)
    hits, squares, truths = [], [], []
    for _ in range(40):
        reference, candidate = (_flat(t, 20_000, 0.5, generator) for t in (ALANINE, SHIFTED))
        mask, _ = comparing.bins_told(reference, candidate)
        assert mask.sum() > 50
        truth = float(np.std((_energy(SHIFTED) - _energy(ALANINE))[mask]))
        row = compare(reference, [candidate]).rows[0]
        hits.append(row.rmse_corrected.covers(truth))
        squares.append(row.rmse.value**2 - row.noise_used**2)
        truths.append(truth**2)
    assert np.mean(hits) >= 0.9
    assert np.sqrt(np.mean(squares)) == pytest.approx(np.sqrt(np.mean(truths)), rel=0.15)


def test_a_negative_square_is_reported_as_zero_with_an_interval() -> None:
    deviations = np.random.default_rng(5).normal(size=(200, 50))
    found = comparing.corrected_interval(0.5, np.ones(50), deviations, 1.0, 0.025)
    assert found.value == found.low == 0.0
    assert found.high > 0.0


def test_without_noise_the_interval_is_the_number() -> None:
    found = comparing.corrected_interval(4.0, np.ones(50), np.zeros((200, 50)), 0.0, 0.025)
    assert found.value == 2.0
    assert found.covers(2.0)
    assert found.high - found.low < 0.02


def test_populations_and_basin_free_energies_differ_by_the_known_amounts() -> None:
    generator = np.random.default_rng(6)
    exact = [t.populations() for t in (ALANINE, SHIFTED)]
    reference, candidate = (_flat(t, 200_000, 0.0, generator) for t in (ALANINE, SHIFTED))
    row = compare(reference, [candidate]).rows[0]
    energies = [-kT(T) * np.log(p / p[basins.BASINS.index("PII")]) for p in exact]
    for index, basin in enumerate(row.basins):
        change = exact[1][index] - exact[0][index]
        assert basin.population_difference.value == pytest.approx(change, abs=0.02)
        change = energies[1][index] - energies[0][index]
        assert basin.free_energy_difference.value == pytest.approx(change, abs=0.15 * KJ_PER_KCAL)
        assert basin.population_difference.low < basin.population_difference.value < basin.population_difference.high


def test_a_candidate_that_misses_a_basin_has_no_upper_end_and_no_number_for_it() -> None:
    generator = np.random.default_rng(7)
    reference = _flat(ALANINE, 50_000, 0.0, generator)
    for count in (400, 4_000, 40_000):
        full = surface.estimate(ALANINE.sample(count, generator), T).labelled("full")
        cv = ALANINE.sample(2 * count, generator)
        stuck = cv[basins.assign(cv[:, 0], cv[:, 1]) != basins.BASINS.index("alphaL")][:count]
        blind = surface.estimate(stuck, T).labelled("blind")
        rows = compare(reference, [full, blind]).rows
        assert rows[1].bins_missed > rows[0].bins_missed
        assert rows[1].population_missed > 0.03
        assert rows[1].js.value > rows[0].js.value
        left = rows[1].basins[3]
        assert not left.visited
        assert left.known.verdict == "never visited"
        assert not left.population.bounded
        assert np.isnan(left.free_energy_difference.value)
        if count > 400:  # bins of the basin that should have been seen many times
            assert np.isinf(rows[1].rmse_corrected.high)
            assert rows[0].rmse_corrected.bounded


def test_bins_that_rest_on_few_visits_are_counted() -> None:
    generator = np.random.default_rng(8)
    reference = _flat(ALANINE, 50_000, 0.0, generator)
    thin, thick = (surface.estimate(ALANINE.chain(n, 0.9, generator), T) for n in (5_000, 400_000))
    rows = compare(reference, [thin, thick]).rows
    assert rows[0].bins_thin > 30 > rows[1].bins_thin


def test_one_dimensional_surfaces_compare_too() -> None:
    generator = np.random.default_rng(9)
    lengths = [generator.normal(0.7, 0.05, size=(20_000, 1)) for _ in range(2)]
    edges = (np.linspace(0.5, 0.9, 25),)
    a, b = (surface.estimate(x, T, cv_names=("end-to-end",), edges=edges) for x in lengths)
    row = compare(a, [b]).rows[0]
    assert row.basins == ()
    assert row.rmse_corrected.value < 0.1 * KJ_PER_KCAL


def test_nothing_to_compare_is_an_error() -> None:
    one = surface.estimate(ALANINE.sample(2_000, np.random.default_rng(10)), T)
    with pytest.raises(InputError, match="at least one candidate"):
        compare(one, [])
    with pytest.raises(InputError, match="two or more bins"):
        compare(one, [one], cutoff_kcal_mol=0.0)
