"""Runs equilibrate before they record: the first frames have the temperature of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.md.engines.replica_exchange import exchange
from mlsim.md.engines.shared import simulate_together
from mlsim.md.engines.single import simulate
from mlsim.md.settings import ExchangeSettings, RunSettings
from mlsim.md.signals import StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials.vacuum import Vacuum

SHORT = {"solvent": "vacuum", "platform": "Reference", "report_ps": 0.04, "ns": 0.002}


def first_temperatures(molecule: Molecule, directory: Path, **changes: object) -> float:
    """Mean kinetic temperature of the first 2 ps of eight runs, K."""
    settings = RunSettings.parse({**SHORT, **changes})
    runs = [simulate(molecule, Vacuum(), settings, directory / str(seed), seed) for seed in range(8)]
    assert all(run.replica.times_ps()[0] == pytest.approx(0.04) for run in runs)
    assert all(run.replica.n_frames == 50 for run in runs)
    return float(np.mean([run.replica.column("temperature_K") for run in runs]))


def test_the_first_frames_are_as_warm_as_the_thermostat(ala2: Molecule, tmp_path: Path) -> None:
    """From the minimised structure they are 30 to 80 K too cold; eight runs know the mean to 8 K."""
    assert RunSettings(ns=1.0).equilibration_ps == 10.0
    cold = first_temperatures(ala2, tmp_path / "without", equilibration_ps=0.0)
    warm = first_temperatures(ala2, tmp_path / "with")
    assert cold < 275.0
    assert abs(warm - 300.0) < 20.0


def test_copies_and_temperatures_that_exchange_equilibrate_too(ala2: Molecule, tmp_path: Path) -> None:
    settings = RunSettings.parse(SHORT)
    parts = [(tmp_path / "shared" / f"replica-{k:02d}", k + 1) for k in range(8)]
    outcomes = simulate_together(ala2, Vacuum(), settings, tmp_path / "shared", parts)
    found = np.mean([outcome.replica.column("temperature_K") for outcome in outcomes])
    assert abs(found - 300.0) < 20.0
    ladder = ExchangeSettings.parse({**SHORT, "temperatures_K": tuple(300.0 + k for k in range(8))})
    done = exchange(ala2, Vacuum(), ladder, tmp_path / "exchange", 5)
    first = [run.replicas[0].column("temperature_K") for run in done.runs]
    assert abs(np.mean(first) - 303.5) < 20.0
    assert done.runs[0].replicas[0].times_ps()[0] == pytest.approx(0.04)


def test_a_stop_request_during_equilibration_leaves_nothing(ala2: Molecule, tmp_path: Path) -> None:
    stop = StopRequest()
    stop.ask("SIGTERM", 143)
    outcome = simulate(ala2, Vacuum(), RunSettings.parse(SHORT), tmp_path / "run", 1, watch=Watch(stop=stop))
    assert (outcome.status, outcome.reason, outcome.step) == ("stopped", "SIGTERM", 0)
    assert not (tmp_path / "run").exists()
