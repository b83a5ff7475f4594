"""Basins: a partition of the torus with the published borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsim.analysis.surfaces import basins

ANGLE = st.floats(-720.0, 720.0, allow_nan=False)


@pytest.mark.parametrize(
    ("phi", "psi", "name"),
    [
        (-75, -20, "alphaR"),
        (-70, 145, "PII"),
        (-150, 155, "C5"),
        (55, 45, "alphaL"),
        (0, 0, "alphaR"),
        (0.01, 0, "alphaL"),
        (130, 0, "alphaL"),
        (130.01, 0, "alphaR"),
        (-110, 145, "C5"),
        (-109.99, 145, "PII"),
        (-75, 50, "PII"),
        (-75, -120, "PII"),
        (-75, 49.99, "alphaR"),
        (-180, 180, "PII"),
        (160, 170, "PII"),
    ],
)
def test_borders_are_the_published_ones(phi: float, psi: float, name: str) -> None:
    assert basins.BASINS[int(basins.assign(np.radians(phi), np.radians(psi)))] == name


@given(ANGLE, ANGLE)
def test_every_point_is_in_exactly_one_basin(phi: float, psi: float) -> None:
    inside = basins.masks(np.radians([phi]), np.radians([psi]))
    assert sum(int(mask[0]) for mask in inside.values()) == 1


@given(st.floats(-179.0, 179.0), st.floats(-179.0, 179.0), st.integers(-2, 2), st.integers(-2, 2))
def test_basins_are_periodic(phi: float, psi: float, turns: int, other: int) -> None:
    # keep away from the borders, where a full turn may change the last bit
    if min(abs(phi - b) for b in (0, 130, -110)) < 1e-6 or min(abs(psi - b) for b in (50, -120)) < 1e-6:
        return
    here = basins.assign(np.radians(phi), np.radians(psi))
    there = basins.assign(np.radians(phi) + 2 * np.pi * turns, np.radians(psi) + 2 * np.pi * other)
    assert here == there
