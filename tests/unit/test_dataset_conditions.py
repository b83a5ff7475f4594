"""Conditions of force data: read from every form of provenance, never assumed, never mixed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsim.dataset import conditions
from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def run_at(kelvin: float) -> dict[str, Any]:
    return {"settings": {"temperature_K": kelvin}, "potential": {"name": "tip3p"}}


def frames(provenance: dict[str, Any]) -> ForceFrames:
    return ForceFrames(
        positions=np.zeros((2, 1, 3)),
        forces=np.zeros((2, 1, 3)),
        atom_types=("C",),
        charges=np.zeros(1),
        elements=("C",),
        molecule_digest="m",
        cv_names=(),
        cvs=np.zeros((2, 0)),
        bias=np.zeros(2),
        run=np.zeros(2, dtype=int),
        time_ps=np.arange(2.0),
        provenance=provenance,
    )


@pytest.mark.parametrize(
    "provenance",
    [
        {"temperature_K": 350.0, "force_field": "amber14/protein.ff14SB.xml", "water": "TIP3P, 423 molecules"},
        {"runs": [run_at(350.0), run_at(350.0)]},
        {"joined": [{"runs": [run_at(350.0)]}, {"settings": {"temperature_K": 350.0}}]},
        {"kind": "frozen-solute mean forces", "settings": {"temperature_K": 350}},
    ],
)
def test_every_form_of_provenance_is_read(provenance: dict[str, Any]) -> None:
    found = conditions.of(provenance, "frames.h5")
    assert (found.temperature_K, found.force_field, found.water) == (
        350.0,
        "amber14/protein.ff14SB.xml",
        "amber14/tip3p.xml",
    )


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        {"runs": []},
        {"runs": [run_at(300.0), {}]},
        {"temperature_K": "warm"},
        {"temperature_K": 300.0, "water": "tip3p"},  # of another program: its force field may be any
        {"temperature_K": 300.0, "force_field": "amber14/protein.ff14SB.xml"},
    ],
)
def test_what_does_not_say_its_conditions_is_refused(provenance: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="do not say at which temperature"):
        conditions.of(provenance, "frames.h5")


def test_runs_of_two_temperatures_are_not_one_set() -> None:
    with pytest.raises(InputError, match=r"300 K.*350 K"):
        conditions.of({"runs": [run_at(300.0), run_at(350.0)]}, "frames.h5")


def test_frames_of_two_temperatures_are_not_joined() -> None:
    with pytest.raises(InputError, match=r"300 K.*350 K"):
        concatenate([frames({"runs": [run_at(300.0)]}), frames({"runs": [run_at(350.0)]})])
    assert len(concatenate([frames({"runs": [run_at(300.0)]}), frames({"settings": {"temperature_K": 300.0}})])) == 4


def test_another_water_is_another_condition() -> None:
    other = {"runs": [{**run_at(300.0), "potential": {"name": "opc"}}]}
    with pytest.raises(InputError, match="opc"):
        concatenate([frames({"runs": [run_at(300.0)]}), frames(other)])


@pytest.mark.parametrize("path", sorted(ROOT.glob("systems/*/training/*.h5")), ids=lambda p: p.name)
def test_the_shipped_frames_say_300_K(path: Path) -> None:
    assert conditions.of(ForceFrames.load(path).provenance, path.name).temperature_K == 300.0


def test_taking_frames_keeps_what_they_say() -> None:
    part = frames({"runs": [run_at(310.0)]}).take([0])
    assert conditions.of(replace(part).provenance, "part").temperature_K == 310.0
