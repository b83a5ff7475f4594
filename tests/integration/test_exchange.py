"""``mlsim exchange`` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlsim.cli.main import app
from mlsim.errors import InputError, OccupiedError, SettingsError
from mlsim.md.engines.replica_exchange import LOG
from mlsim.md.settings import ExchangeSettings
from mlsim.runs.restart import saved_settings
from mlsim.runs.trajectory import Run
from mlsim.workflow.simulation.exchange import run_exchange

SHORT = ("--solvent", "vacuum", "--platform", "Reference", "--exchange-ps", "0.1", "--report-ps", "0.1", "--seed", "4")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["exchange", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_verb_runs_resumes_and_reports(tmp_path: Path) -> None:
    place = tmp_path / "x"
    said = invoke("alanine-dipeptide", "-o", str(place), "--temperatures", "300:360:3", "--ns", "0.0004", *SHORT)
    assert "round trips" in said
    assert "exchanged with the next" in said
    invoke("-o", str(place), "--resume", "--ns", "0.0008")
    assert Run.open(place / "state-02").replicas[0].n_frames == 8
    assert saved_settings(ExchangeSettings, place).temperatures_K == (300.0, 328.634, 360.0)


def test_missing_arguments_are_named() -> None:
    with pytest.raises(InputError, match="add -o DIR"):
        invoke("alanine-dipeptide")
    with pytest.raises(SettingsError, match="--temperatures 300:450:8"):
        invoke("alanine-dipeptide", "-o", "nowhere", "--ns", "1")


def test_the_number_of_processes_does_not_change_a_bit(tmp_path: Path) -> None:
    settings = ExchangeSettings.parse(
        {
            "solvent": "vacuum",
            "ns": 4e-4,
            "temperatures_K": (300.0, 340.0, 380.0),
            "exchange_ps": 0.1,
            "report_ps": 0.1,
            "platform": "Reference",
            "seed": 4,
        }
    )
    run_exchange(settings, tmp_path / "one")
    run_exchange(settings, tmp_path / "two", processes=2)
    for name in (LOG, "state-00/log.csv", "state-02/trajectory.xtc"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(OccupiedError, match="already holds a run"):
        run_exchange(settings, tmp_path / "one")
