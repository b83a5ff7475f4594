"""Quantities of compare by name: the overlap has its exact value, and a wrong name is refused with the known ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlsim.analysis import report
from mlsim.analysis.compare import compare
from mlsim.analysis.quantities import QUANTITIES, Quantity
from mlsim.analysis.surfaces import surface
from mlsim.analysis.uncertainty import Estimate
from mlsim.errors import InputError

HALVES = [np.repeat([-2.0, 2.0], count) for count in ([3000, 1000], [1000, 1000])]


@pytest.fixture(scope="module")
def both() -> list[surface.FreeEnergySurface]:
    """A CV with two values: 3/4 and 1/4 of the frames, and one half each."""
    rng = np.random.default_rng(1)
    return [
        surface.estimate(rng.permutation(x)[:, None], 300.0, cv_names=("phi",)).labelled(name)
        for x, name in zip(HALVES, ("reference", "candidate"), strict=True)
    ]


def test_the_overlap_is_the_population_that_both_share(both: list[surface.FreeEnergySurface]) -> None:
    found = compare(both[0], both, quantities=("overlap",))
    assert [row.others[0].estimate.value for row in found.rows] == pytest.approx([1.0, 0.75])
    assert "overlap" in report.table(found).splitlines()[4]
    rows = json.loads(json.dumps(report.comparison_record(found)))["candidates"]
    assert rows[1]["quantities"] == {"overlap": {"value": pytest.approx(0.75), "low": None, "high": None}}


def test_without_a_name_there_is_no_further_quantity(both: list[surface.FreeEnergySurface]) -> None:
    found = compare(both[0], both[1:])
    assert found.rows[0].others == ()
    assert "overlap" not in report.table(found)


def test_wrong_names_are_refused(both: list[surface.FreeEnergySurface]) -> None:
    with pytest.raises(InputError, match="unknown quantity of compare 'overlab'; did you mean 'overlap'"):
        compare(both[0], both[1:], quantities=("overlab",))
    with pytest.raises(InputError, match="expected every name once"):
        compare(both[0], both[1:], quantities=("overlap", "overlap"))


def test_a_quantity_without_an_interval_of_its_own_is_refused(
    both: list[surface.FreeEnergySurface], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Quantity("bare", "nats", lambda reference, candidate, mask: 1.0)  # type: ignore[arg-type, return-value]
    kept = Quantity("kept, nats", "nats", lambda reference, candidate, mask: Estimate(1.0, 0.5, 2.0), digits=1)
    monkeypatch.setattr(QUANTITIES, "_own", {"bare": bare, "kept": kept})
    with pytest.raises(InputError, match=r"quantity 'bare': expected a mlsim.*Estimate, got 1.0"):
        compare(both[0], both[1:], quantities=("bare",))
    found = compare(both[0], both[1:], quantities=("kept",))
    assert "1.0 [0.5, 2.0]" in report.table(found)
    assert "kept_nats" in report.comparison_record(found)["candidates"][0]["quantities"]
