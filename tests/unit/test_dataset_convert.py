"""The converter of metadynamics archives."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.dataset.convert import from_metad_npz, on_periodic_grid
from mlsim.errors import InputError, MissingError


def archive(path, **changes):
    rng = np.random.default_rng(1)
    angles = np.linspace(-np.pi, np.pi, 61)
    values = {
        "x": rng.normal(size=(9, 2, 3)).astype(np.float32),
        "f": rng.normal(size=(9, 2, 3)).astype(np.float32),
        "cv": rng.uniform(-np.pi, np.pi, size=(9, 2)),
        "total_bias": 2.0 * np.cos(angles)[:, None] + np.sin(angles)[None, :],
        "bias_factor": 6.0,
        "dt_ps": 0.2,
    }
    values.update(changes)
    np.savez(path, **{k: v for k, v in values.items() if v is not None})
    return values


def read(path):
    return from_metad_npz(path, ("HC", "CT"), np.array([0.1, -0.1]), ("H", "C"), "d" * 16, {"water": "TIP3P"})


def test_arrays_times_and_facts_come_through(tmp_path):
    values = archive(tmp_path / "a.npz")
    frames = read(tmp_path / "a.npz")
    assert np.array_equal(frames.positions, values["x"])
    assert np.array_equal(frames.forces, values["f"])
    assert frames.positions.dtype == np.float32
    assert frames.time_ps == pytest.approx(0.2 * np.arange(1, 10))
    assert set(frames.run) == {0}
    assert frames.cv_names == ("phi", "psi")
    assert frames.provenance["bias_factor"] == 6.0
    assert frames.provenance["water"] == "TIP3P"


def test_the_bias_is_that_of_psi_along_the_first_axis(tmp_path):
    values = archive(tmp_path / "a.npz")
    frames = read(tmp_path / "a.npz")
    phi, psi = values["cv"].T
    assert frames.bias == pytest.approx(2.0 * np.cos(psi) + np.sin(phi), abs=5e-3)


def test_the_grid_is_exact_at_its_points_and_periodic():
    surface = np.random.default_rng(0).normal(size=(5, 7))
    surface[-1], surface[:, -1] = surface[0], surface[:, 0]
    psi, phi = np.linspace(-np.pi, np.pi, 5), np.linspace(-np.pi, np.pi, 7)
    for i in range(5):
        assert on_periodic_grid(surface, phi, np.full(7, psi[i])) == pytest.approx(surface[i], abs=1e-9)
    around = on_periodic_grid(surface, phi + 2 * np.pi, np.full(7, psi[2] - 2 * np.pi))
    assert around == pytest.approx(surface[2], abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cv": None}, "lacks cv"),
        ({"x": np.zeros((9, 3, 3))}, r"x \(nm\): expected shape \[\*, 2, 3\]"),
        ({"cv": np.zeros((8, 2))}, "cv"),
        ({"f": np.full((9, 2, 3), np.nan)}, "NaN"),
        ({"x": np.array([{"a": 1}], dtype=object)}, "not readable"),
    ],
)
def test_unfit_archives_are_refused(tmp_path, changes, message):
    archive(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.npz")


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        read(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_text("text")
    with pytest.raises(InputError, match="not readable"):
        read(tmp_path / "b.npz")
