"""Tabulated filters: close to the network's, consistent with themselves, zero at the cutoff."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.deploy.kernel import table
from mlsim.errors import ArtifactError
from mlsim.models.contract import AbstractEnergyModel, create


@pytest.fixture(params=["gaussian", "bessel"])
def model(request: pytest.FixtureRequest) -> AbstractEnergyModel:
    config = {"features": 8, "n_radial": 12, "cutoff_nm": 0.9, "radial": request.param}
    return create("issnet", config, seed=3).double()


def test_default_grid_meets_the_tolerance(model: AbstractEnergyModel) -> None:
    found = table.error(table.tabulate(model), model)
    assert found.slope <= table.SLOPE_TOLERANCE
    assert found.value <= found.slope


def test_error_falls_with_the_fourth_and_third_power_of_the_spacing(model: AbstractEnergyModel) -> None:
    coarse, fine = (table.error(table.tabulate(model, k), model) for k in (256, 512))
    assert 12 < coarse.value / fine.value < 20
    assert 6 < coarse.slope / fine.slope < 10


def test_slope_is_the_derivative_of_the_value(model: AbstractEnergyModel) -> None:
    filters = table.tabulate(model, 64)
    places = np.random.default_rng(0).uniform(0.05, 0.89, 200)
    step = 1e-6
    difference = (filters.at(places + step)[0] - filters.at(places - step)[0]) / (2 * step)
    assert np.abs(difference - filters.at(places)[1]).max() < 1e-6


def test_value_and_slope_are_continuous_at_nodes(model: AbstractEnergyModel) -> None:
    filters = table.tabulate(model, 32)
    nodes = np.arange(1, 32) * filters.spacing_nm
    before, after = filters.at(nodes - 1e-12), filters.at(nodes + 1e-12)
    for left, right in zip(before, after, strict=True):
        assert np.abs(left - right).max() < 1e-9 * np.abs(left).max()


def test_filters_vanish_at_the_cutoff(model: AbstractEnergyModel) -> None:
    value, slope = table.tabulate(model).at(np.array([model.config.cutoff_nm]))
    assert np.abs(value).max() < 1e-14
    assert np.abs(slope).max() < 1e-11


def test_saved_table_is_read_back(model: AbstractEnergyModel, tmp_path: Path) -> None:
    filters = table.tabulate(model, 128)
    filters.save(tmp_path / "table.npz")
    again = table.FilterTable.load(tmp_path / "table.npz")
    assert again.cutoff_nm == filters.cutoff_nm
    assert np.allclose(again.values, filters.values, rtol=1e-6, atol=1e-7)
    assert np.allclose(again.slopes, filters.slopes, rtol=1e-6, atol=1e-6)


def test_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    path.write_bytes(b"not a zip file")
    with pytest.raises(ArtifactError, match="not a filter table"):
        table.FilterTable.load(path)
    np.savez(path, values=np.zeros((1, 2, 3)))
    with pytest.raises(ArtifactError, match="not a filter table"):
        table.FilterTable.load(path)
