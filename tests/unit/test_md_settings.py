"""Settings of what moves: groups of fields, each said once; flat keys; runs of the previous version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlsim.chem.molecule import Molecule
from mlsim.errors import SettingsError
from mlsim.md.engines.ladder import temperature_ladder
from mlsim.md.session import identity
from mlsim.md.settings import (
    FORMER,
    Biased,
    ExchangeSettings,
    Hardware,
    LabelSettings,
    ReferenceSettings,
    Replicas,
    RunSettings,
)
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.vacuum import Vacuum
from mlsim.records import digest_of_json
from mlsim.settings import Settings

ALL: tuple[type[Settings], ...] = (RunSettings, ReferenceSettings, ExchangeSettings, LabelSettings)
#: Endings of field names that are units, and how a description writes them.
UNITS = {"_fs": "fs", "_ps": "ps", "_K": "K", "_nm": "nm", "_rad": "rad", "_Da": "Da", "_kJ_mol": "kJ/mol"}
UNITS |= {"_minutes": "minutes", "_hours": "hours", "_per_ps": "1/ps", "_nm_per_ps": "nm/ps"}
UNITS |= {"_kJ_mol_nm": "kJ/mol/nm"}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_field_is_described_by_a_noun_phrase_with_its_unit(kind: type[Settings]) -> None:
    for name, field in kind.model_fields.items():
        text = field.description or ""
        assert re.fullmatch(r"[A-Z][^\n]*\.", text), f"{kind.__name__}.{name}: {text!r}"
        ending = max((e for e in UNITS if name.endswith(e)), key=len, default=None)
        if ending is not None:
            assert re.search(rf"(^|\W){re.escape(UNITS[ending])}(\W|$)", text), f"{name}: no unit in {text!r}"


def test_a_field_that_several_settings_share_is_one_field() -> None:
    for kind in ALL:
        assert issubclass(kind, Hardware)
        for name in Hardware.model_fields:
            assert kind.model_fields[name].description == Hardware.model_fields[name].description
    assert not issubclass(ReferenceSettings, Replicas)
    assert not issubclass(ExchangeSettings, Biased)


@pytest.mark.parametrize("key", ["temperature_K", "bias", "replicas", "guard", "context"])
def test_an_exchange_has_no_field_of_a_single_run(key: str) -> None:
    assert key not in ExchangeSettings.model_fields
    value = {"temperature_K": 310.0, "bias": "metadynamics", "replicas": 2, "guard": "stop", "context": "shared"}[key]
    with pytest.raises(SettingsError, match=f"unknown key '{key}'"):
        ExchangeSettings.parse({"ns": 1.0, "temperatures_K": [300.0, 330.0], key: value})


@pytest.mark.parametrize("key", ["replicas", "bridge", "guard", "context"])
def test_a_reference_has_no_field_of_replicas_or_of_a_learned_solvent(key: str) -> None:
    with pytest.raises(SettingsError, match=f"unknown key '{key}'"):
        ReferenceSettings.parse({"ns": 1.0, key: RunSettings.model_fields[key].default})


def test_an_exchange_begun_by_the_previous_version_has_the_settings_of_this_one() -> None:
    now = ExchangeSettings(ns=1.0, temperatures_K=temperature_ladder("300:400:3"), seed=3)
    then = {**now.model_dump(mode="json"), **FORMER}
    assert ExchangeSettings.parse(then) == now


def test_identity_of_a_run_is_that_of_the_previous_version(ala2: Molecule) -> None:

    settings = RunSettings(ns=1.0, solvent="vacuum", timestep_fs=2.0, seed=5)
    # written by the version before the settings were composed
    assert identity(settings, ala2, resolve("vacuum", PotentialRequest(ala2)), None, 5) == "8e7b8540240c6273"


def test_a_state_of_an_exchange_is_a_plain_run_at_its_temperature() -> None:
    settings = ExchangeSettings(ns=1.0, temperatures_K=(300.0, 330.0), timestep_fs=2.0, solvent="vacuum")
    assert settings.at(1) == RunSettings(ns=1.0, temperature_K=330.0, timestep_fs=2.0, solvent="vacuum")


def test_a_run_of_an_earlier_version_is_recognised_under_the_names_of_now(ala2: Molecule, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("ns: 1\nunrecorded_ps: 0.5\n")
    (tmp_path / "reference.yaml").write_text("ns: 1\nunrecorded_ps: 0.5\nequilibration_ps: 20\n")
    settings = RunSettings.from_yaml(tmp_path / "run.yaml")
    assert settings.equilibration_ps == 0.5
    found = ReferenceSettings.from_yaml(tmp_path / "reference.yaml")
    assert (found.equilibration_ps, found.box_equilibration_ps) == (0.5, 20.0)
    kept = {"unrecorded_ps": 0.5}
    before = digest_of_json([kept, ala2.n_atoms, list(ala2.elements), Vacuum().describe(), None, 7])
    assert identity(settings, ala2, Vacuum(), None, 7) == before
