"""Means of correlated series: covariances against the exact ones of an autoregressive process."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.dataset.averaging import LEAST_SAMPLES, average
from mlsim.errors import InputError

MIXING = np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, -1.0, 0.5]])


def process(n_samples: int, persistence: float, n_series: int, seed: int) -> np.ndarray:
    """Stationary x_t = a x_{t-1} + sqrt(1 - a^2) e_t, mixed: covariance MIXING MIXING^T; [series, samples, 3]."""
    rng = np.random.default_rng(seed)
    x = np.empty((n_series, n_samples, 3))
    x[:, 0] = rng.normal(size=(n_series, 3))
    noise = np.sqrt(1 - persistence**2) * rng.normal(size=x.shape)
    for t in range(1, n_samples):
        x[:, t] = persistence * x[:, t - 1] + noise[:, t]
    return x @ MIXING.T


def exact_inefficiency(n_samples: int, persistence: float) -> float:
    """1 + 2 sum_t (1 - t/K) a^t."""
    t = np.arange(1, n_samples)
    return float(1 + 2 * ((1 - t / n_samples) * persistence**t).sum())


@pytest.mark.parametrize("persistence", [0.0, 0.6, 0.9])
def test_covariance_and_inefficiency_are_those_of_the_process(persistence: float) -> None:
    n_samples = 1024
    found = [average(one) for one in process(n_samples, persistence, 200, seed=1)]
    g = exact_inefficiency(n_samples, persistence)
    exact = MIXING @ MIXING.T * g / n_samples
    mean = np.mean([a.covariance for a in found], axis=0)
    assert np.trace(mean) == pytest.approx(np.trace(exact), rel=0.1)
    np.testing.assert_allclose(mean, exact, atol=0.1 * np.trace(exact))
    assert np.mean([a.inefficiency for a in found]) == pytest.approx(g, rel=0.1)


def test_the_error_bars_cover_the_truth_as_often_as_they_say() -> None:
    inside = []
    for one in np.concatenate(np.split(process(1024, 0.8, 480, seed=2), 8), axis=2):  # 60 series, 24 components
        found = average(one)
        inside.append(np.abs(found.mean) < 1.96 * np.sqrt(np.diag(found.covariance)))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_a_covariance_is_positive_definite_though_blocks_are_fewer_than_components() -> None:
    rng = np.random.default_rng(3)
    found = average(rng.normal(size=(200, 60)))
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert found.stderr == pytest.approx(1 / np.sqrt(200), rel=0.15)


def test_a_constant_series_has_no_error_and_a_short_one_is_refused() -> None:
    found = average(np.ones((LEAST_SAMPLES, 3)))
    assert found.stderr == 0.0
    np.testing.assert_array_equal(found.mean, np.ones(3))
    with pytest.raises(InputError, match="at least 64 samples, got 10"):
        average(np.ones((10, 3)))
