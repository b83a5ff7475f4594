"""The vector type of the compiled kernel: sixteen lanes that compute what one number would."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from mlsim.deploy.kernel import simd

Array = NDArray[np.floating]


@numba.njit
def _tanh(values: Array, out: Array) -> None:
    for k in range(0, values.size, simd.LANES):
        simd.store(out, k, simd.tanh(simd.load(values, k)))


@numba.njit
def _dot(a: Array, b: Array) -> float:
    lanes = simd.zeros(a)
    for k in range(0, a.size, simd.LANES):
        lanes = simd.fma(simd.load(a, k), simd.load(b, k), lanes)
    return simd.total(lanes)


@numba.njit
def _scaled(a: Array, index: int, out: Array) -> None:
    factor = simd.spread(a, index)
    for k in range(0, a.size, simd.LANES):
        value = simd.load(a, k)
        shifted = simd.add(simd.mul(value, factor), simd.fill(value, 0.5))
        simd.store(out, k, simd.div(shifted, simd.fill(value, 2.0)))


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 3e-7), (np.float64, 5e-16)])
def test_tanh_is_right_on_the_whole_axis(dtype: type, bound: float) -> None:
    values = np.concatenate([np.linspace(-15, 15, 1600), np.logspace(-9, 0, 160)]).astype(dtype)
    out = np.empty_like(values)
    _tanh(values, out)
    assert np.abs(out - np.tanh(values.astype(np.float64))).max() < bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_keeps_nan_and_saturates_at_infinity(dtype: type) -> None:
    values = np.zeros(16, dtype)
    values[:3] = np.nan, np.inf, -np.inf
    out = np.empty_like(values)
    _tanh(values, out)
    assert np.isnan(out[0])
    assert np.allclose(out[1:3], [1.0, -1.0], atol=1e-6)
    assert (out[3:] == 0.0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lanes_compute_what_numpy_computes(dtype: type) -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(2, 64)).astype(dtype)
    assert np.isclose(_dot(a, b), a.astype(float) @ b.astype(float), rtol=1e-5)
    out = np.empty_like(a)
    _scaled(a, 7, out)
    assert np.allclose(out, (a * a[7] + 0.5) / 2, rtol=1e-6)
