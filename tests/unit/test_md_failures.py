"""Runs that blow up before their first report: what is kept, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.errors import StorageError, UnphysicalError
from mlsim.md.engines import single
from mlsim.md.engines.shared import simulate_together
from mlsim.md.engines.single import simulate
from mlsim.md.settings import RunSettings
from mlsim.md.watch import Watch
from mlsim.potentials.vacuum import Vacuum
from mlsim.records import RunRecord

#: A step so long that bonds of hydrogens cannot be held.
WILD = RunSettings.parse(
    {
        "solvent": "vacuum",
        "platform": "Reference",
        "report_ps": 1.0,
        "ns": 0.01,
        "seed": 3,
        "timestep_fs": 10.0,
        "constraints": "none",
        "hydrogen_mass_Da": 1.0,
        "equilibration_ps": 0.0,
        "runaway_temperature_K": 1e6,
    }
)
CALM = WILD.model_copy(update={"timestep_fs": 1.0})


def starts(directory: Path) -> np.ndarray:
    return Molecule.from_pdb(directory / "last_good.pdb").positions


@pytest.mark.parametrize("equilibration", [0.0, 5.0])
def test_a_blow_up_before_the_first_report_keeps_the_minimised_start_and_names_an_atom(
    ala2: Molecule, tmp_path: Path, equilibration: float
) -> None:
    settings = WILD.model_copy(update={"equilibration_ps": equilibration})
    with pytest.raises(UnphysicalError, match=r"worst atom [A-Z]{3}\d-.*last good state \(step 0\)"):
        simulate(ala2, Vacuum(), settings, tmp_path / "run", 1)
    record = RunRecord.read(tmp_path / "run")
    assert record.status == "failed"
    assert record.failure is not None
    assert json.loads((tmp_path / "run" / "failure.json").read_text()) == record.failure.model_dump()
    simulate(ala2, Vacuum(), CALM.model_copy(update={"ns": 0.001}), tmp_path / "calm", 1)
    assert np.abs(starts(tmp_path / "run") - ala2.positions).max() < 0.2  # minimised, not exploded


def test_a_blow_up_in_a_shared_context_names_copy_and_atom_and_files_that_exist(ala2: Molecule, tmp_path: Path) -> None:
    parts = [(tmp_path / "run" / f"replica-{k:02d}", k) for k in range(2)]
    with pytest.raises(UnphysicalError, match=r"worst atom (copy [01], )?[A-Z]{3}\d-") as refused:
        simulate_together(ala2, Vacuum(), WILD, tmp_path / "run", parts)
    named = str(refused.value).split(" in ")[-1].split(" and ")[0].split(";")[0]
    assert Path(named).is_file()
    for place in (tmp_path / "run", *(path for path, _ in parts)):
        assert RunRecord.read(place).status == "failed"


def test_a_start_that_failed_before_its_first_checkpoint_keeps_its_start_and_begins_anew(
    ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnphysicalError("equilibration: positions are NaN")

    settings, place = CALM.model_copy(update={"ns": 0.001}), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(single, "equilibrate", fail)
        with pytest.raises(UnphysicalError, match=r"worst atom [A-Z]{3}\d-.*last good state \(step 0\)"):
            simulate(ala2, Vacuum(), settings, place, 1)
    assert not (place / "checkpoint.chk").exists()
    assert RunRecord.read(place).status == "failed"
    assert np.abs(starts(place) - ala2.positions).max() < 0.2
    assert simulate(ala2, Vacuum(), settings, place, 1).status == "complete"
    assert not (place / "failure.json").exists()


class Vanishes:
    """Progress that removes the run's directory when the run has moved."""

    def __init__(self, directory: Path, again: bool) -> None:
        self.directory, self.again = directory, again

    def advance(self, steps: int) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.again:
            self.directory.mkdir(exist_ok=True)


@pytest.mark.parametrize("again", [False, True])
def test_a_directory_that_is_removed_under_a_run_is_one_line_and_is_not_made_again(
    ala2: Molecule, tmp_path: Path, again: bool
) -> None:
    place = tmp_path / "run"
    settings = CALM.model_copy(update={"ns": 0.003, "format": "dcd"})
    with pytest.raises(StorageError, match=r"removed"):
        simulate(ala2, Vacuum(), settings, place, 1, watch=Watch((), Vanishes(place, again)))
    assert not place.exists() or not any(place.iterdir())
