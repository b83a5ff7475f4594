"""Reweighting against exact answers: static bias, another Hamiltonian, a gridded bias, MBAR of harmonic wells."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlsim.analysis import reweight
from mlsim.analysis.surfaces import basins, noise, surface
from mlsim.errors import InputError
from mlsim.potentials.dihedral_bias import offset_of
from mlsim.units import KJ_PER_KCAL, kT
from tests.unit.torus_density import ALANINE, SHIFTED, WIDE, Torus

T = 300.0
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "ala2-metad-ff14SB-tip3p.npz"


def _moments(x: np.ndarray, log_weights: np.ndarray) -> tuple[float, float]:
    weights = np.exp(log_weights - log_weights.max())
    mean = float(np.average(x, weights=weights))
    return mean, float(np.average(np.square(x - mean), weights=weights))


def test_a_biased_sample_gives_the_unbiased_populations() -> None:
    cv = WIDE.sample(200_000, np.random.default_rng(1))
    bias = kT(T) * (ALANINE.log_density(cv) - WIDE.log_density(cv))
    found = surface.estimate(cv, T, log_weights=reweight.static_bias(bias, T)).basins
    assert found is not None
    np.testing.assert_allclose(found.value, ALANINE.populations(), atol=0.005)
    for index, name in enumerate(found.names):
        assert found.interval(name, 0.999).covers(ALANINE.populations()[index])


def test_frames_of_one_hamiltonian_under_a_bias_give_the_ensemble_of_another() -> None:
    # sampled: U_1 + V with exp(-(U_1 + V)/kT) = WIDE, U_1 of ALANINE; target: U_2 of SHIFTED
    cv = WIDE.sample(200_000, np.random.default_rng(2))
    first, second = -kT(T) * ALANINE.log_density(cv), -kT(T) * SHIFTED.log_density(cv)
    bias = -kT(T) * WIDE.log_density(cv) - first
    log_weights = reweight.hamiltonian(second + 31.0, first, T, bias)
    found = surface.estimate(cv, T, log_weights=log_weights).basins
    assert found is not None
    np.testing.assert_allclose(found.value, SHIFTED.populations(), atol=0.005)


def test_equal_hamiltonians_leave_every_weight_equal() -> None:
    energy = np.random.default_rng(3).normal(size=50)
    assert np.ptp(reweight.hamiltonian(energy + 3.0, energy, T)) < 1e-12
    assert reweight.effective_samples(reweight.hamiltonian(energy, energy, T)) == pytest.approx(50.0)


def test_a_gridded_bias_is_interpolated_and_periodic() -> None:
    axis = -np.pi + 2 * np.pi * np.arange(72) / 72

    def exact(phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
        return 9.0 * np.exp(np.cos(phi - 2.0) + 0.5 * np.cos(psi + 3.0))

    grid = exact(*np.meshgrid(axis, axis, indexing="ij"))
    cv = np.random.default_rng(4).uniform(-9.0, 9.0, size=(500, 2))
    np.testing.assert_allclose(reweight.bias_on_grid(grid, cv), exact(*cv.T), rtol=2e-4)
    np.testing.assert_allclose(reweight.bias_on_grid(grid, np.array([[axis[5], axis[70]]])), grid[5, 70], rtol=1e-12)


def test_discarding_keeps_the_late_part_of_every_run() -> None:
    time, run = np.tile(np.arange(5.0), 2), np.repeat([0, 1], 5)
    assert reweight.discard(time, run, 3.0).tolist() == [False, False, False, True, True] * 2
    with pytest.raises(InputError, match="leaves nothing of run 0, which ends at 4 ps"):
        reweight.discard(time, run, 4.5)


def test_normalised_runs_weigh_as_many_frames_as_they_have() -> None:
    run = np.repeat([0, 1], [30, 60])
    log_weights = np.random.default_rng(5).normal(size=90) + 500.0 * run
    weights = np.exp(reweight.normalise_runs(log_weights, run))
    assert weights[run == 0].sum() == pytest.approx(30.0)
    assert weights[run == 1].sum() == pytest.approx(60.0)


#: Harmonic wells: U = STIFF x^2 / 2 with biases SPRING (x - c)^2 / 2; every ensemble is Gaussian, kJ/mol/nm^2 and nm.
STIFF, SPRING = 40.0, 160.0
CENTRES = (-0.6, -0.3, 0.0, 0.3, 0.6)
COUNTS = (20_000, 10_000, 15_000, 10_000, 20_000)


@pytest.fixture(scope="module")
def wells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames [F], bias of every well at all of them [5, F], and MBAR log weights [F]."""
    generator = np.random.default_rng(6)
    total, width = STIFF + SPRING, np.sqrt(kT(T) / (STIFF + SPRING))
    parts = [generator.normal(SPRING * c / total, width, size=n) for c, n in zip(CENTRES, COUNTS, strict=True)]
    x = np.concatenate(parts)
    bias = np.stack([0.5 * SPRING * np.square(x - c) for c in CENTRES])
    return x, bias, reweight.mbar(bias, COUNTS, T)


def test_mbar_of_harmonic_wells_has_the_exact_mean_and_width(wells: tuple[np.ndarray, ...]) -> None:
    mean, variance = _moments(wells[0], wells[2])
    assert mean == pytest.approx(0.0, abs=0.01)
    assert variance == pytest.approx(kT(T) / STIFF, rel=0.05)


def test_mbar_of_harmonic_wells_has_the_exact_free_energies(wells: tuple[np.ndarray, ...]) -> None:
    _, bias, log_weights = wells
    log_weights = log_weights - np.logaddexp.reduce(log_weights)
    found = [-kT(T) * np.logaddexp.reduce(log_weights - v / kT(T)) for v in bias]
    stiff = STIFF * SPRING / (STIFF + SPRING)
    exact = [0.5 * stiff * c**2 + 0.5 * kT(T) * np.log((STIFF + SPRING) / STIFF) for c in CENTRES]
    np.testing.assert_allclose(found, exact, atol=0.18)  # three standard errors of the outer wells


def test_mbar_of_harmonic_wells_has_the_exact_profile(wells: tuple[np.ndarray, ...]) -> None:
    x, _, log_weights = wells
    run = np.repeat(np.arange(5), COUNTS)
    edges = (np.linspace(-0.6, 0.6, 25),)
    found = surface.estimate(x[:, None], T, cv_names=("rg",), log_weights=log_weights, run=run, edges=edges)
    difference = found.free_energy - 0.5 * STIFF * np.square(found.centres[0])
    assert np.std(difference) / KJ_PER_KCAL < 0.06


def test_mbar_of_one_run_is_its_static_bias() -> None:
    bias = np.random.default_rng(7).normal(scale=3.0, size=400)
    difference = reweight.mbar(bias[None], [400], T) - reweight.static_bias(bias, T)
    assert np.ptp(difference) < 1e-9


def test_mbar_joins_metadynamics_like_runs_on_the_torus() -> None:
    generator = np.random.default_rng(8)
    east = Torus(((0.8, -90, 1.0, 60, 0.6), (0.2, 60, 0.6, -20, 0.5)))
    west = Torus(((0.2, -90, 1.0, 60, 0.6), (0.8, 60, 0.6, -20, 0.5)))
    cv = np.concatenate([east.sample(60_000, generator), west.sample(60_000, generator)])
    # constants of the two biases are unrelated, as between two metadynamics seeds
    bias = kT(T) * np.stack([ALANINE.log_density(cv) - t.log_density(cv) + c for t, c in ((east, 9), (west, -4))])
    log_weights = reweight.mbar(bias, [60_000, 60_000], T)
    found = surface.estimate(cv, T, log_weights=log_weights, run=np.repeat([0, 1], 60_000)).basins
    assert found is not None
    np.testing.assert_allclose(found.value, ALANINE.populations(), atol=0.008)


@pytest.mark.parametrize("apart", [1.5, 3.0])
@pytest.mark.parametrize("constant", [0.0, 40.0])
def test_mbar_of_runs_without_overlap_is_refused_with_its_number(apart: float, constant: float) -> None:
    generator = np.random.default_rng(9)
    width = np.sqrt(kT(T) / SPRING)
    x = np.concatenate([generator.normal(c, width, size=5_000) for c in (0.0, apart)])
    bias = np.stack([0.5 * SPRING * np.square(x - c) for c in (0.0, apart)]) + np.array([[0.0], [constant]])
    with pytest.raises(InputError, match=r"MBAR: (the 2 runs overlap by [0-9.e-]+|.* not self-consistent)"):
        reweight.mbar(bias, [5_000, 5_000], T)


def test_a_constant_in_one_bias_changes_no_weight(wells: tuple[np.ndarray, ...]) -> None:
    _, bias, log_weights = wells
    shifted = reweight.mbar(bias + 40.0 * np.arange(5)[:, None], COUNTS, T)
    np.testing.assert_allclose(shifted - shifted[0], log_weights - log_weights[0], atol=1e-4)


def test_the_overlap_is_one_for_one_ensemble_and_falls_with_the_distance() -> None:
    generator = np.random.default_rng(10)
    width, found = np.sqrt(kT(T) / SPRING), []
    for apart in (0.0, 0.2, 0.4, 0.6):
        x = np.concatenate([generator.normal(c, width, size=4_000) for c in (0.0, apart)])
        bias = np.stack([0.5 * SPRING * np.square(x - c) for c in (0.0, apart)])
        found.append(reweight.mbar_with_overlap(bias, [4_000, 4_000], T)[1])
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert found == sorted(found, reverse=True)


def _metadynamics_on_a_circle(
    energy: np.ndarray, walkers: int, steps: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Metropolis walkers on the G points of a circle, each with a well-tempered bias that grows every 10 steps.

    Returns points [S, W], bias before the hill [S, W], c(t) [S, W] and the final bias [W, G], kJ/mol.
    """
    points, gamma, height = len(energy), 6.0, 0.6
    away = np.abs(np.arange(points) - np.arange(points)[:, None])
    bump = np.exp(-0.5 * np.square(np.minimum(away, points - away) / 3.0))
    bias, place, all_walkers = np.zeros((walkers, points)), np.zeros(walkers, dtype=int), np.arange(walkers)
    constant = np.zeros(walkers)
    kept = np.zeros((3, steps, walkers))
    for step in range(steps):
        tried = (place + generator.integers(-3, 4, size=walkers)) % points
        rise = energy[tried] - energy[place] + bias[all_walkers, tried] - bias[all_walkers, place]
        place = np.where(generator.random(walkers) < np.exp(-np.clip(rise, 0.0, None) / kT(T)), tried, place)
        here = bias[all_walkers, place]
        kept[:, step] = place, here, constant
        if step % 10 == 9:
            bias += height * np.exp(-here / (kT(T) * (gamma - 1.0)))[:, None] * bump[place]
            constant = np.array([offset_of(one[None], gamma, T) for one in bias])
    return kept[0].astype(int), kept[1], kept[2], bias


def test_frames_of_a_growing_bias_have_the_exact_populations_with_the_constant_of_their_time() -> None:
    angle = np.linspace(-np.pi, np.pi, 60, endpoint=False)
    energy = 9.0 * np.cos(2.0 * angle) + 3.0 * np.sin(angle)  # two wells, 18 kJ/mol between them
    exact = np.exp(-energy / kT(T))
    rare = angle > 0.0
    truth = exact[rare].sum() / exact.sum()
    assert 0.05 < truth < 0.12
    place, bias, constant, final = _metadynamics_on_a_circle(energy, 24, 12_000, np.random.default_rng(11))
    late = slice(2_000, None)
    by_time, by_end = [], []
    for w in range(24):
        inside = rare[place[late, w]]
        for found, log_weights in (
            (by_time, reweight.growing_bias(bias[late, w], constant[late, w], T)),
            (by_end, reweight.static_bias(final[w][place[late, w]], T)),
        ):
            weights = np.exp(log_weights - log_weights.max())
            found.append(weights[inside].sum() / weights.sum())
    error = np.std(by_time, ddof=1) / np.sqrt(len(by_time))
    assert np.mean(by_time) == pytest.approx(truth, abs=3.0 * error)
    assert error < 0.01
    assert abs(np.mean(by_time) - truth) < abs(np.mean(by_end) - truth)


def test_mbar_says_nothing_about_jax_and_leaves_logging_and_environment_alone() -> None:
    code = (
        "import logging, os\n"
        "os.environ.pop('PYMBAR_DISABLE_JAX', None)\n"
        "import numpy as np\n"
        "from mlsim.analysis import reweight\n"
        "reweight.mbar(np.zeros((2, 8)), [4, 4], 300.0)\n"
        "assert 'PYMBAR_DISABLE_JAX' not in os.environ\n"
        "assert logging.getLogger('pymbar.timeseries').level == 0\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    assert logging.getLogger().level >= 0


@pytest.mark.skipif(not REAL.is_file(), reason=f"needs {REAL}: metadynamics of alanine dipeptide in TIP3P")
def test_explicit_alanine_dipeptide_has_its_known_populations_and_noise() -> None:
    with np.load(REAL) as data:
        late = slice(6_000, None)  # the bias grew fast in the first 1.2 ns
        cv, total = data["cv"][late], data["total_bias"]
    found = surface.estimate(cv, T, bias=reweight.bias_on_grid(total[:-1, :-1].T, cv))
    assert found.basins is not None
    assert found.basins.value[basins.BASINS.index("alphaR")] == pytest.approx(0.33, abs=0.01)
    assert noise.between_parts(found) / KJ_PER_KCAL == pytest.approx(0.21, abs=0.02)
    assert noise.own(found) / KJ_PER_KCAL == pytest.approx(0.105, abs=0.01)
