"""The session: one record, one clock, one failure for every engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError
from mlsim.md.engines.replica_exchange import exchange
from mlsim.md.engines.shared import simulate_together
from mlsim.md.engines.single import simulate
from mlsim.md.session import Engine
from mlsim.md.settings import ExchangeSettings, RunSettings
from mlsim.md.signals import Clock, StopRequest
from mlsim.potentials.vacuum import Vacuum
from mlsim.records import RunRecord
from mlsim.runs.streams import cut_all_back
from mlsim.workflow.simulation.run import run

SHORT = {"solvent": "vacuum", "platform": "Reference", "report_ps": 0.04, "ns": 8e-5, "seed": 3}


@pytest.fixture(scope="module")
def records(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """run.json of every engine of this process, by its name."""
    place = tmp_path_factory.mktemp("engines")
    settings = RunSettings.parse(SHORT)
    simulate(ala2, Vacuum(), settings, place / "single", 1)
    simulate_together(ala2, Vacuum(), settings, place / "shared", [(place / "shared" / "replica-00", 1)])
    ladder = ExchangeSettings.parse({**SHORT, "temperatures_K": (300.0, 330.0), "exchange_ps": 0.04})
    exchange(ala2, Vacuum(), ladder, place / "exchange", 1)
    run(RunSettings.parse({**SHORT, "replicas": 2, "context": "separate"}), place / "replicas")
    where = {
        "single": place / "single",
        "shared": place / "shared" / "replica-00",
        "exchange": place / "exchange",
        "state": place / "exchange" / "state-01",
        "replicas": place / "replicas",
    }
    return {name: json.loads((path / "run.json").read_text()) for name, path in where.items()}


def test_the_record_of_every_engine_has_the_same_keys(records: dict[str, dict[str, object]]) -> None:
    for name, record in records.items():
        assert record.keys() == RunRecord.model_fields.keys(), name
        assert record["engine"] == ("exchange" if name == "state" else name)
        assert record["status"] == "complete"


def test_the_record_says_how_many_atoms_and_copies_moved_whoever_moved_them(
    records: dict[str, dict[str, object]], ala2: Molecule
) -> None:
    note = {"name": ala2.name, "digest": ala2.digest, "solute_atoms": 22, "atoms": 22}
    assert all(record["molecule"] == note for record in records.values())
    copies = {name: record["copies"] for name, record in records.items()}
    assert copies == {"single": 1, "shared": 1, "exchange": 2, "state": 2, "replicas": 2}


def test_a_time_limit_asks_for_a_stop_and_an_earlier_reason_stays() -> None:
    stop = StopRequest()
    assert not Clock.of_hours(None, stop).is_over()
    assert not Clock.of_hours(1.0, stop).is_over()
    assert Clock(0.0, stop).is_over()
    assert stop.reason == "max_hours"
    earlier = StopRequest()
    earlier.ask("SIGTERM", 143)
    assert Clock(0.0, earlier).is_over()
    assert (earlier.reason, earlier.exit_code) == ("SIGTERM", 143)


@pytest.mark.parametrize("name", ["../victim", "/victim", "link", "below/../../victim"])
def test_a_checkpoint_cannot_shorten_a_file_that_is_not_of_its_run(tmp_path: Path, name: str) -> None:
    victim, directory = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    directory.mkdir()
    (directory / "link").symlink_to(victim)
    with pytest.raises(CheckpointError, match="no output of this run"):
        cut_all_back(directory, {name: 0})
    assert victim.read_text() == "precious"


def test_engines_are_small() -> None:
    """All that a session has stands once: an engine has no loop over steps, no checkpoint file, no record file."""
    folder = Path(simulate.__code__.co_filename).parent
    for path in folder.glob("*.py"):
        code = path.read_text()
        for word in (".save(self.directory)", "write_json", "checkpoint_minutes", "max_hours", "time.monotonic"):
            assert word not in code or path.name == "held_solute.py", f"{path.name}: {word}"
    assert Engine.__doc__
