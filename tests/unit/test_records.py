"""One schema for run.json, digests that keep their values, and errors in one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mlsim.errors import InputError, MissingError
from mlsim.records import (
    RunRecord,
    SoluteNote,
    command_line,
    digest_of,
    digest_of_all,
    digest_of_json,
    full_digest,
    hashed_integer,
    versions,
)

#: Records as they were written before there was a format number, shortened where nothing depends on it.
OLD = {
    "status": "complete",
    "seed": 7,
    "settings": {"temperature_K": 350.0, "solvent": "vacuum"},
    "molecule": {"name": "ala", "digest": "d" * 16, "solute_atoms": 22, "atoms": 22},
    "potential": {"name": "vacuum"},
    "bias": None,
    "platform": {"name": "Reference", "properties": {}, "trial_steps_per_second": None},
    "identity": "i" * 16,
    "versions": {"mlsim": "0.1.0"},
    "command": "mlsim run",
    "reason": None,
    "step": 500,
    "wall_seconds": 1.5,
}


def put(directory: Path, values: object) -> Path:
    (directory / "run.json").write_text(json.dumps(values))
    return directory


def test_digests_have_the_values_that_identify_what_exists() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert digest_of(b"abc") == hashlib.sha256(b"abc").hexdigest()[:16] == "ba7816bf8f01cfea"
    assert digest_of("a", b"b", "c") == digest_of_all(iter(["ab", "c"])) == "ba7816bf8f01cfea"
    assert digest_of(array) == hashlib.sha256(array.tobytes()).hexdigest()[:16]
    assert full_digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert digest_of_json({"b": 1, "a": 2}) == digest_of_json({"a": 2, "b": 1}) == digest_of('{"a": 2, "b": 1}')
    whole = hashlib.sha256(b"7/velocities").digest()
    assert hashed_integer("7/velocities", 63) == int.from_bytes(whole[:8], "little") >> 1


def test_an_array_whose_bytes_are_in_another_order_has_no_digest() -> None:
    with pytest.raises((ValueError, BufferError)):
        digest_of(np.arange(6.0).reshape(2, 3).T)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = RunRecord(
        engine="single",
        status="running",
        seed=1,
        settings={"temperature_K": 300.0},
        molecule=SoluteNote(name="ala", digest="d", solute_atoms=22, atoms=22),
        potential={"name": "vacuum"},
        versions=versions(),
        command=command_line(),
    )
    record.write(tmp_path)
    assert RunRecord.read(tmp_path) == record
    assert json.loads((tmp_path / "run.json").read_text()).keys() == RunRecord.model_fields.keys()


@pytest.mark.parametrize(
    ("extra", "engine", "copies"),
    [
        ({}, "single", 1),
        ({"guard": {"outside": 0.0}}, "single", 1),
        ({"context": {"shared_by": 4}}, "shared", 4),
        ({"exchange": {"attempted": [1]}}, "exchange", 1),
        ({"state": 2}, "exchange", 1),
        ({"engine": "gromacs"}, "gromacs", 1),
        ({"replicas": 3}, "replicas", 3),
    ],
)
def test_records_of_the_first_format_are_read(tmp_path: Path, extra: dict, engine: str, copies: int) -> None:
    record = RunRecord.read(put(tmp_path, OLD | extra))
    assert (record.engine, record.copies, record.temperature_K) == (engine, copies, 350.0)
    assert record.molecule is not None
    assert record.molecule.atoms == 22
    assert record.observers == ({"guard": {"outside": 0.0}} if "guard" in extra else {})


def test_the_failure_of_the_first_format_is_read(tmp_path: Path) -> None:
    told = {"status": "failed", "message": "NaN", "worst_atom": "ALA2-CB", "last_good_step": 400}
    failure = RunRecord.read(put(tmp_path, OLD | told)).failure
    assert failure is not None
    assert (failure.message, failure.step, failure.last_good_step) == ("NaN", 500, 400)


@pytest.mark.parametrize(
    "values",
    [
        [],
        3,
        {},
        OLD | {"status": "done"},
        OLD | {"step": "many"},
        OLD | {"settings": None},
        OLD | {"molecule": "ala"},
        OLD | {"molecule": {"name": "ala"}},
        OLD | {"wall_seconds": float("nan")},
        OLD | {"format": 3},
        OLD | {"seed": None},
        OLD | {"context": {"shared_by": "x"}},
    ],
)
def test_a_changed_record_is_refused_in_one_line(tmp_path: Path, values: object) -> None:
    with pytest.raises(InputError) as refused:
        RunRecord.read(put(tmp_path, values))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000, '{"a": ' + "1" * 5000 + "}"])
def test_a_record_that_is_no_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as refused:
        RunRecord.read(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_directory_without_a_record_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="not a run directory"):
        RunRecord.read(tmp_path)


def test_a_temperature_is_never_guessed(tmp_path: Path) -> None:
    record = RunRecord.read(put(tmp_path, OLD | {"settings": {"solvent": "vacuum"}}))
    with pytest.raises(InputError, match="temperature_K"):
        _ = record.temperature_K
