"""What a fit records, and that the steps after it take it from there: temperature, split, molecule."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsim.chem.catalog import find_system
from mlsim.chem.peptide import build
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.split import by_block
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.errors import InputError
from mlsim.records import FitRecord
from mlsim.workflow.training.populations import first_split

SMALL = (
    *("--features", "16", "--blocks", "1", "--radial-functions", "8", "--epochs", "1", "--batch", "32"),
    *("--block-ps", "4", "--gap-ps", "0.4"),
)
HELD_OUT = 0.15

Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*words: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["mlsim", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def shipped() -> ForceFrames:
    path = find_system("alanine-dipeptide").directory / "training" / "frames.h5"
    return ForceFrames.load(path).take(np.arange(240))


def at(frames: ForceFrames, kelvin: float | None) -> ForceFrames:
    facts = {key: value for key, value in frames.provenance.items() if key != "temperature_K"}
    return replace(frames, provenance=facts if kelvin is None else {**facts, "temperature_K": kelvin})


def test_a_model_of_350_K_frames_gets_a_card_of_350_K(call: Call, shipped: ForceFrames, tmp_path: Path) -> None:
    at(shipped, 350.0).save(tmp_path / "warm.h5")
    assert call("train", "issnet", tmp_path / "warm.h5", "-o", tmp_path / "fit", *SMALL) == 0
    record = FitRecord.read(tmp_path / "fit")
    assert (record.temperature_K, record.water, record.objective) == (350.0, "amber14/tip3p.xml", "forces")
    assert call("export", tmp_path / "fit", "--name", "warm", "-o", tmp_path) == 0
    assert ForceFieldArtifact.read(tmp_path / "warm").card.description.temperature_K == 350.0


def test_a_temperature_is_neither_guessed_nor_overruled(
    call: Call, shipped: ForceFrames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at(shipped, None).save(tmp_path / "silent.h5")
    assert call("train", "issnet", tmp_path / "silent.h5", "-o", tmp_path / "fit", *SMALL) == 0
    capsys.readouterr()
    assert call("export", tmp_path / "fit", "--name", "silent", "-o", tmp_path) == 2
    assert "do not say their temperature" in capsys.readouterr().err
    assert not (tmp_path / "silent").exists()
    asked: tuple[object, ...] = ("export", tmp_path / "fit", "--name", "named", "-o", tmp_path)
    facts = ("--temperature", 310, "--force-field", "amber14/protein.ff14SB.xml", "--water", "amber14/tip3p.xml")
    for given, missing in ((2, "force field"), (4, "water")):
        assert call(*asked, *facts[:given]) == 2
        assert f"do not say their {missing}" in capsys.readouterr().err
        assert not (tmp_path / "named").exists()
    assert call(*asked, *facts) == 0
    description = ForceFieldArtifact.read(tmp_path / "named").card.description
    assert (description.temperature_K, description.force_field, description.water) == facts[1::2]
    at(shipped, 350.0).save(tmp_path / "warm.h5")
    assert call("train", "issnet", tmp_path / "warm.h5", "-o", tmp_path / "warm", *SMALL) == 0
    capsys.readouterr()
    assert call("export", tmp_path / "warm", "--name", "wrong", "-o", tmp_path, "--temperature", 300) == 2
    assert "trained with 350" in capsys.readouterr().err


def test_the_second_stage_holds_out_what_the_first_held_out(
    call: Call, shipped: ForceFrames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped.save(tmp_path / "frames.h5")
    options = ("--held-out", HELD_OUT, "--seed", 5)
    assert call("train", "issnet", tmp_path / "frames.h5", "-o", tmp_path / "fit", *SMALL, *options) == 0
    parts = first_split(FitRecord.read(tmp_path / "fit"), shipped, "fit")
    first = by_block(shipped, (1 - 2 * HELD_OUT, HELD_OUT, HELD_OUT), 4.0, 5, 0.4)
    np.testing.assert_array_equal(parts.train_index, first.train_index)
    other = by_block(shipped, (0.8, 0.1, 0.1), 4.0, 5, 0.4)  # what the default of the first version would have taken
    assert set(other.train_index) & set(first.valid_index)
    capsys.readouterr()
    asked = ("train", "populations", tmp_path / "fit", "--run", tmp_path, "--data", tmp_path / "frames.h5")
    assert call(*asked, "-o", tmp_path / "second", "--held-out", 0.1) == 2
    assert "held-out" in capsys.readouterr().err


def test_other_frames_than_those_of_the_first_stage_are_refused(
    call: Call, shipped: ForceFrames, tmp_path: Path
) -> None:
    shipped.save(tmp_path / "frames.h5")
    assert call("train", "issnet", tmp_path / "frames.h5", "-o", tmp_path / "fit", *SMALL) == 0
    with pytest.raises(InputError, match="the files of the first stage"):
        first_split(FitRecord.read(tmp_path / "fit"), shipped.take(np.arange(200)), "fit")


def test_a_fit_of_before_this_record_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"kind": "issnet", "n_train": 3}')
    with pytest.raises(InputError, match="train again"):
        FitRecord.read(tmp_path)


def test_export_need_not_be_told_the_molecule_twice(call: Call, tmp_path: Path) -> None:
    molecule = build("ACE-SER-NME")
    generator = np.random.default_rng(1)
    count = 120
    frames = ForceFrames(
        positions=molecule.positions + generator.normal(scale=0.005, size=(count, molecule.n_atoms, 3)),
        forces=generator.normal(scale=50.0, size=(count, molecule.n_atoms, 3)),
        atom_types=molecule.atom_types,
        charges=molecule.charges,
        elements=molecule.elements,
        molecule_digest=molecule.digest,
        cv_names=(),
        cvs=np.zeros((count, 0)),
        bias=np.zeros(count),
        run=np.zeros(count, dtype=int),
        time_ps=np.arange(count) * 0.2,
        provenance={"temperature_K": 300.0, "force_field": "amber14/protein.ff14SB.xml", "water": "amber14/tip3p.xml"},
    )
    frames.save(tmp_path / "frames.h5")
    asked = ("train", "issnet", tmp_path / "frames.h5", "-o", tmp_path / "fit", "--system", "ACE-SER-NME")
    assert call(*asked, *SMALL) == 0
    assert call("export", tmp_path / "fit", "--name", "ser", "-o", tmp_path) == 0
    assert ForceFieldArtifact.read(tmp_path / "ser").card.exported_for.molecule_digest == molecule.digest
