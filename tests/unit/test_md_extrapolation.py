"""The extrapolation guard: counts, stops, restarts, and what ``run.json`` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.dataset.region import TrainedRegion
from mlsim.errors import InputError
from mlsim.md.engines.single import simulate
from mlsim.md.observers.extrapolation import EXIT_CODE, PATIENCE, ExtrapolationGuard
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.vacuum import Vacuum
from mlsim.workflow.simulation.guard import guards_for


def around(molecule: Molecule, threshold: float) -> TrainedRegion:
    """One landmark, the molecule as it is; one pair of heavy atoms, 0.01 nm per unit."""
    pairs = np.array([[1, 18]])
    d = np.linalg.norm(molecule.positions[1] - molecule.positions[18])
    return TrainedRegion(molecule.digest, 22, pairs, np.array([0.01]), np.array([[d / 0.01]], np.float32), threshold)


def settings(steps: int, **changes: Any) -> RunSettings:
    base = {"solvent": "vacuum", "ns": steps * 4e-6, "platform": "Reference", "report_ps": 0.04, "seed": 5}
    return RunSettings.parse(base | changes)


def run(
    molecule: Molecule,
    directory: Path,
    steps: int,
    threshold: float,
    action: Literal["report", "stop"] = "report",
    start: Literal["new", "resume"] = "new",
) -> tuple[dict[str, Any], StopRequest]:
    stop, s = StopRequest(), settings(steps)
    guard = ExtrapolationGuard(around(molecule, threshold), s.report_steps, action, s.timestep_ps, stop)
    simulate(molecule, Vacuum(), s, directory, 5, start, None, Watch((guard,), None, stop))
    return json.loads((directory / "run.json").read_text()), stop


def table(directory: Path) -> np.ndarray:
    return np.loadtxt(directory / "guard.csv", delimiter=",", skiprows=1)


def test_the_fraction_outside_is_that_of_the_table(ala2: Molecule, tmp_path: Path) -> None:
    run(ala2, tmp_path / "first", 400, 1.0)
    threshold = float(np.median(table(tmp_path / "first")[:, 2]))
    found = run(ala2, tmp_path / "second", 400, threshold)[0]["observers"]["guard"]
    distances = table(tmp_path / "second")[:, 2]
    assert found["frames"] == len(distances) == 40
    assert found["fraction_outside"] == (distances > threshold).mean() == pytest.approx(0.5, abs=0.03)
    assert found["worst_distance"] == pytest.approx(distances.max())


def test_a_resumed_run_counts_on_and_the_path_is_that_without_a_guard(ala2: Molecule, tmp_path: Path) -> None:
    whole = run(ala2, tmp_path / "whole", 300, 1.0)[0]["observers"]["guard"]
    run(ala2, tmp_path / "cut", 130, 1.0)
    assert run(ala2, tmp_path / "cut", 300, 1.0, start="resume")[0]["observers"]["guard"] == whole
    assert (tmp_path / "whole" / "guard.csv").read_bytes() == (tmp_path / "cut" / "guard.csv").read_bytes()
    simulate(ala2, Vacuum(), settings(300), tmp_path / "bare", 5)
    assert (tmp_path / "bare" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
    assert json.loads((tmp_path / "bare" / "run.json").read_text())["observers"] == {}


def test_stop_stops_after_a_row_of_frames_outside_and_report_does_not(ala2: Molecule, tmp_path: Path) -> None:
    record, stop = run(ala2, tmp_path / "stop", 4000, 1e-6, "stop")
    assert (record["status"], record["reason"], stop.exit_code) == ("stopped", "left the trained region", EXIT_CODE)
    assert PATIENCE <= record["observers"]["guard"]["frames"] < 400
    record, stop = run(ala2, tmp_path / "report", 200, 1e-6, "report")
    assert (record["status"], stop.reason, record["observers"]["guard"]["fraction_outside"]) == ("complete", None, 1.0)


def test_the_identity_of_a_run_does_not_depend_on_the_guard(ala2: Molecule, tmp_path: Path) -> None:
    simulate(ala2, Vacuum(), settings(100), tmp_path / "r", 5)
    simulate(ala2, Vacuum(), settings(200, guard="report"), tmp_path / "r", 5, "resume")
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "complete"


def test_a_guard_for_a_solvent_that_was_not_trained_is_refused(ala2: Molecule) -> None:
    potential = resolve("vacuum", PotentialRequest(ala2))
    assert guards_for(settings(10), potential, ala2, StopRequest()) == ()
    with pytest.raises(InputError, match="'vacuum' was not trained"):
        guards_for(settings(10, guard="stop"), potential, ala2, StopRequest())
