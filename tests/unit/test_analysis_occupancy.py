"""Populations that the data can tell, and those that they cannot: counts, verdicts, and coverage where it is hard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.coverage import POPULATIONS, RESIDENCE, Chain, populations, surfaces
from mlsim.analysis import occupancy, tables
from mlsim.analysis.compare import compare
from mlsim.analysis.occupancy import LEAST_TRIPS, Occupancy
from mlsim.analysis.surfaces import basins, bin_errors
from mlsim.analysis.surfaces.pool import combine
from mlsim.analysis.surfaces.surface import FreeEnergySurface, estimate
from mlsim.chem.catalog import load_system
from mlsim.errors import InputError
from tests.unit.torus_density import ALANINE

SHIPPED = Path(__file__).resolve().parents[2] / "systems"


def _series(*lengths: int) -> np.ndarray:
    """Outside, inside, outside, ... of these lengths."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def test_visits_are_counted_within_runs_and_a_short_absence_is_none() -> None:
    inside = _series(10, 5, 2, 5, 10, 3)
    run = np.zeros(len(inside), dtype=np.int64)
    assert occupancy.visits(inside, run, 1.0) == (3, 2)  # it ends inside: entered, not left
    assert occupancy.visits(inside, run, 3.0) == (2, 1)
    halves = np.repeat([0, 1], [12, len(inside) - 12])  # cut inside the first visit
    assert occupancy.visits(inside, halves, 1.0) == (3, 2)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Occupancy(0.0, 0.0, 0, 0, 0, 0.0), "never visited"),
        (Occupancy(1.0, 0.0, 900, 0, 0, 0.0), "never left"),
        (Occupancy(0.2, 1e-4, 180, LEAST_TRIPS - 1, 9, 400.0), "not converged"),
        (Occupancy(0.2, 1e-4, 180, 9, 9, 49.0), "too short"),
        (Occupancy(0.9, 0.05, 180, 9, 9, 400.0), "not converged"),  # reweighted: a few frames hold all the weight
        (Occupancy(0.2, 1e-4, 180, 9, 9, 400.0), "converged"),
    ],
)
def test_an_interval_stands_only_where_it_is_known(found: Occupancy, verdict: str) -> None:
    assert found.verdict == verdict
    assert found.interval().bounded == (verdict == "converged")


def test_a_never_visited_region_has_no_upper_bound_from_the_visited_ones() -> None:
    # ergodic among three basins thousands of times; the fourth, of 5 %, has not been found yet
    cv = ALANINE.sample(60_000, np.random.default_rng(1))
    found = estimate(cv[basins.assign(cv[:, 0], cv[:, 1]) != basins.BASINS.index("alphaL")], 300.0)
    text = tables.summary(found)
    assert "alphaL  never visited" in text
    assert "not known for alphaL: the other populations are shares of what was visited" in text
    assert "0.0 [" not in text


def test_one_visit_gives_no_difference_of_free_energies() -> None:
    generator = np.random.default_rng(2)
    reference = estimate(ALANINE.chain(40_000, 0.5, generator), 300.0).labelled("reference")
    cv = ALANINE.chain(5_000, 0.5, generator)
    region = basins.assign(cv[:, 0], cv[:, 1])
    cv[region == 0] = cv[np.flatnonzero(region == 1)[0]]
    cv[100] = np.radians([-75.0, -20.0])  # a single frame in alphaR
    row = compare(reference, [estimate(cv, 300.0).labelled("short")]).rows[0]
    right = row.basins[0]
    assert right.known.frames == 1
    assert not right.population.bounded
    assert np.isnan(right.free_energy_difference.value)
    text = tables.table(compare(reference, [estimate(cv, 300.0).labelled("short")]))
    assert "alphaR not converged (entered 1 x, left 1 x, 1 frames)" in text


def test_data_shorter_than_fifty_correlation_times_say_so_and_get_no_interval() -> None:
    found = estimate(ALANINE.chain(1_000, 0.97, np.random.default_rng(3)), 300.0)
    assert found.length < 50.0
    text = tables.summary(found)
    assert "too short for intervals" in text
    assert not any(found.population(name).bounded for name in basins.BASINS)
    assert not np.isfinite(found.band()[0]).any()


def test_the_variance_of_a_bin_is_the_scatter_of_repeated_chains() -> None:
    chain = Chain(POPULATIONS, RESIDENCE["slow"])
    found = list(surfaces(chain, 60, 10_000, 1, 4))
    often = chain.probability > 0.01
    scatter = np.var([s.probability[often] for s in found], axis=0, ddof=1)
    stated = np.mean([s.variance[often] for s in found], axis=0)
    assert np.median(stated / scatter) == pytest.approx(1.0, rel=0.15)


def test_runs_stuck_in_different_places_have_the_variance_of_single_samples() -> None:
    run = np.repeat(np.arange(8), 500)
    variance, entries = bin_errors.variances(run % 2, 2, np.ones(len(run)), run)
    assert variance[0] > 0.25 / 8 / 3
    assert not entries.any()


def test_pooled_parts_that_disagree_have_the_variance_of_their_spread() -> None:
    parts = [Occupancy(p, 1e-6, 100, 20, 20, 500.0) for p in (0.1, 0.3)]
    found = occupancy.pooled(parts, np.array([0.5, 0.5]))
    assert found.value == pytest.approx(0.2)
    assert found.variance == pytest.approx(0.01)
    agreeing = occupancy.pooled([Occupancy(0.2, 1e-4, 9, 20, 20, 500.0)] * 2, np.array([0.5, 0.5]))
    assert agreeing.variance == pytest.approx(0.5e-4)
    assert agreeing.entries == 40


@pytest.mark.parametrize(("kind", "frames", "runs"), [("fast", 1_000, 1), ("slow", 10_000, 1), ("slow", 10_000, 4)])
def test_intervals_hold_in_nine_of_ten_short_chains(kind: str, frames: int, runs: int) -> None:
    counts = populations(Chain(POPULATIONS, RESIDENCE[kind]), frames, runs, 150, 5)
    for name in ("40 %", "4 %"):
        assert counts[name].given > 120
        assert counts[name].held / counts[name].given >= 0.90
    rare = counts["0.4 %"]
    assert rare.given < 120  # the visits of 0.4 % are too few more often than not
    assert rare.held >= 0.9 * rare.given - 2
    assert counts["bins"].held / counts["bins"].given >= 0.93


def test_a_short_candidate_that_is_like_the_reference_is_not_told_from_it() -> None:
    chain = Chain(POPULATIONS, RESIDENCE["fast"])
    reference = combine(list(surfaces(chain, 4, 20_000, 1, 6)), "reference")
    low = [compare(reference, [s]).rows[0].rmse_corrected.low for s in surfaces(chain, 80, 1_000, 1, 7)]
    assert np.mean(np.array(low) == 0.0) >= 0.93


@pytest.mark.parametrize("system", ["alanine-dipeptide", "alanine-tripeptide", "lys-ala-glu"])
def test_shipped_surfaces_are_of_their_molecule(system: str) -> None:
    paths = sorted((SHIPPED / system / "reference").glob("surface-*.npz"))
    assert paths
    digest = load_system(SHIPPED / system).digest
    for path in paths:
        subject = FreeEnergySurface.load(path).subject
        assert subject is not None
        assert (subject.system, subject.molecule, subject.solvent) == (system, digest, "tip3p")


def _damaged(path: Path, **changes: np.ndarray | None) -> Path:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": np.ones((3, 3))}, "has shape"),
        ({"probability": np.full((24, 24), np.nan)}, "sum to 1 or less"),
        ({"variance": None}, "lacks 'variance'"),
        ({"facts": np.array("[]")}, "not a free-energy surface"),
        ({"facts": np.array(json.dumps({"format": "mlsim-surface-1"}))}, "earlier version wrote it"),
        ({"facts": np.array(json.dumps({"format": "mlsim-surface-2", "cv_names": 3}))}, "damaged surface"),
        ({"basins": np.ones((4, 2))}, "damaged surface"),
    ],
)
def test_a_damaged_surface_is_one_clear_error(
    changes: dict[str, np.ndarray | None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "surface.npz"
    estimate(ALANINE.sample(500, np.random.default_rng(8)), 300.0).save(path)
    with pytest.raises(InputError, match=message):
        FreeEnergySurface.load(_damaged(path, **changes))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"\x00" * 500])
def test_what_is_no_archive_is_no_surface(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "surface.npz").write_bytes(content)
    with pytest.raises(InputError, match="not a free-energy surface"):
        FreeEnergySurface.load(tmp_path / "surface.npz")


def test_a_basin_that_is_often_crossed_has_no_interval_while_most_of_the_weight_is_not_settled() -> None:
    # ten frames in alphaR, often, and two long stays elsewhere: nothing says how long such stays are
    region = np.concatenate([np.tile([0, 1, 1], 40), np.full(200, 2), np.tile([0, 1, 1], 40), np.full(400, 2)])
    place = np.radians([[-75.0, -20.0], [-70.0, 145.0], [-150.0, 155.0]])
    found = estimate(place[region], 300.0)
    assert found.basin("alphaR").round_trips > LEAST_TRIPS
    assert found.basin("C5").round_trips < LEAST_TRIPS
    assert found.too_short
    assert not any(found.population(name).bounded for name in basins.BASINS)
