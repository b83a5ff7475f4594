"""Reports and figures: every file is there, valid, and says what was measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mlsim.analysis import figures, report
from mlsim.analysis.compare import Comparison, compare
from mlsim.analysis.surfaces import surface
from mlsim.errors import InputError, StorageError
from mlsim.units import KJ_PER_KCAL
from tests.unit.torus_density import ALANINE, SHIFTED

T = 300.0
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    generator = np.random.default_rng(1)
    kinds = ((ALANINE, "tip3p"), (SHIFTED, "gbn2"), (ALANINE, "issnet:ala 2/new"))
    one, *rest = (surface.estimate(t.chain(20_000, 0.3, generator), T).labelled(name) for t, name in kinds)
    return compare(one, rest)


def test_the_table_names_every_candidate_and_basin(comparison: Comparison) -> None:
    text = report.table(comparison)
    for word in ("tip3p", "gbn2", "issnet:ala 2/new", "alphaR", "PII", "C5", "alphaL", "noise-corrected", "kcal/mol"):
        assert word in text
    assert "nan" not in text


def test_the_record_is_json_with_units_in_its_keys(comparison: Comparison) -> None:
    record = json.loads(json.dumps(report.comparison_record(comparison), allow_nan=False))
    first = record["candidates"][0]
    assert first["label"] == "gbn2"
    rmse = comparison.rows[0].rmse
    assert first["rmse_kcal_mol"] == {"value": pytest.approx(rmse.value / KJ_PER_KCAL), "low": None, "high": None}
    corrected = first["rmse_corrected_kcal_mol"]
    assert corrected["low"] <= corrected["value"] <= corrected["high"]
    assert set(first["basins"]) == {"alphaR", "PII", "C5", "alphaL"}
    assert record["reference"]["basin_population"]["PII"]["value"] == pytest.approx(0.42, abs=0.03)


def test_a_comparison_writes_its_files_and_surfaces_that_can_be_reused(comparison: Comparison, tmp_path: Path) -> None:
    written = report.write_comparison(comparison, tmp_path / "out")
    assert all(path.is_file() for path in written)
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(tmp_path / "out")) for path in written)
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(PNG)
    again = [surface.FreeEnergySurface.load(p) for p in written if p.suffix == ".npz"]
    redone = compare(again[0], again[1:])
    assert redone.rows[0].rmse.value == pytest.approx(comparison.rows[0].rmse.value, rel=1e-9)
    assert redone.rows[0].rmse_corrected.high == pytest.approx(comparison.rows[0].rmse_corrected.high, rel=1e-3)


def test_a_surface_writes_grids_in_both_units(comparison: Comparison, tmp_path: Path) -> None:
    report.write_surface(comparison.reference, tmp_path)
    record = json.loads((tmp_path / "surface.json").read_text())
    kj, kcal = record["free_energy_kJ_mol"], record["free_energy_kcal_mol"]
    assert len(kj) == len(kj[0]) == 24
    assert any(value is None for row in kj for value in row)
    pairs = [(a, b) for ra, rb in zip(kj, kcal, strict=True) for a, b in zip(ra, rb, strict=True) if a is not None]
    assert all(a == pytest.approx(b * KJ_PER_KCAL) for a, b in pairs)
    with (tmp_path / "surface.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 24 * 24
    assert min(float(row["free_energy_kJ_mol"]) for row in rows if row["free_energy_kJ_mol"] != "nan") == 0.0
    assert "alphaR" in (tmp_path / "summary.txt").read_text()


def test_one_dimensional_results_are_profiles(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    edges = (np.linspace(0.4, 1.0, 25),)
    lengths = {name: generator.normal(0.7, 0.06, size=(3_000, 1)) for name in "ab"}
    names = ("end-to-end",)
    a, b = (surface.estimate(x, T, cv_names=names, edges=edges).labelled(n) for n, x in lengths.items())
    written = report.write_comparison(compare(a, [b]), tmp_path)
    assert (tmp_path / "comparison.png").read_bytes().startswith(PNG)
    assert "basin" not in written[0].read_text()
    report.write_surface(a, tmp_path / "one")
    assert (tmp_path / "one" / "surface.png").read_bytes().startswith(PNG)


def test_figures_refuse_the_wrong_number_of_variables(comparison: Comparison, tmp_path: Path) -> None:
    line = comparison.reference.marginal("phi")
    with pytest.raises(InputError, match="over 2 CV"):
        figures.panels([line], tmp_path / "x.png")
    with pytest.raises(InputError, match="over 1 CV"):
        figures.profiles([comparison.reference], tmp_path / "x.png")
    with pytest.raises(InputError, match="at least one surface"):
        figures.panels([], tmp_path / "x.png")


def test_a_file_in_place_of_the_output_directory_is_one_clear_error(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="no directory can be made there"):
        report.write_comparison(comparison, tmp_path / "taken")
