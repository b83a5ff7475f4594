"""Replica exchange: the acceptance, the bookkeeping, and runs that can be interrupted."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError, InputError, MissingError, OccupiedError, SettingsError, UnphysicalError
from mlsim.md.engines.ladder import Ladder, accepts, log_acceptance, temperature_ladder
from mlsim.md.engines.replica_exchange import LOG, exchange
from mlsim.md.settings import ExchangeSettings
from mlsim.md.signals import StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.named import resolve
from mlsim.potentials.vacuum import Vacuum
from mlsim.runs.restart import Checkpoint
from mlsim.runs.trajectory import Run
from mlsim.units import kT

# ---- acceptance ----


@given(st.floats(-30, 5))
def test_the_accepted_fraction_of_uniform_numbers_is_the_metropolis_probability(log_ratio: float) -> None:
    uniforms = (np.arange(2000) + 0.5) / 2000
    fraction = np.mean([accepts(log_ratio, float(u)) for u in uniforms])
    assert abs(fraction - min(1.0, math.exp(log_ratio))) <= 1 / 2000


@given(st.floats(100, 600), st.floats(100, 600), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_acceptance_obeys_detailed_balance(t_i: float, t_j: float, u_i: float, u_j: float) -> None:
    """pi(x, y) a(x, y -> y, x) = pi(y, x) a(y, x -> x, y), in logarithms."""
    there, back = log_acceptance(t_i, t_j, u_i, u_j), log_acceptance(t_i, t_j, u_j, u_i)
    before, after = -u_i / kT(t_i) - u_j / kT(t_j), -u_j / kT(t_i) - u_i / kT(t_j)
    assert before + min(0.0, there) == pytest.approx(after + min(0.0, back), rel=1e-9, abs=1e-6)


@given(st.floats(allow_nan=False), st.floats(0, 1))
def test_no_ratio_overflows(log_ratio: float, uniform: float) -> None:
    assert accepts(log_ratio, uniform) in (True, False)


def test_a_huge_ratio_is_accepted_and_a_tiny_one_refused() -> None:
    assert accepts(1e6, 0.999)
    assert not accepts(-1e6, 1e-300)
    assert accepts(-1e6, 0.5) is accepts(float("-inf"), 0.5) is False


def test_a_nan_is_never_accepted_and_a_nan_energy_is_an_error() -> None:
    assert not accepts(float("nan"), 0.5)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UnphysicalError, match="finite energies"):
            log_acceptance(300.0, 310.0, bad, 0.0)
        with pytest.raises(UnphysicalError, match="finite energies"):
            Ladder.start(2).exchange((300.0, 310.0), (0.0, bad), 1, 0)


def test_exchanges_of_equilibrium_configurations_keep_both_ensembles() -> None:
    """Two levels, 0 and 5 kJ/mol: fresh Boltzmann draws, then an exchange; the populations must stay as they are."""
    temperatures, gap, draws = (300.0, 600.0), 5.0, 6000
    upper = [1.0 / (1.0 + math.exp(gap / kT(t))) for t in temperatures]
    generator, ladder, after = np.random.default_rng(8), Ladder.start(2), np.zeros(2)
    for n in range(draws):
        energies = gap * (generator.random(2) < upper)
        ladder, source = ladder.exchange(temperatures, energies.tolist(), 11, 2 * n)
        after += energies[source] / gap
    error = [math.sqrt(p * (1 - p) / draws) for p in upper]
    assert np.all(np.abs(after / draws - upper) < 4 * np.array(error))
    swap = math.exp(-gap * (1 / kT(300.0) - 1 / kT(600.0)))  # only (low, high) -> (high, low) can be refused
    expected = 1.0 - (1 - upper[0]) * upper[1] * (1 - swap)
    assert ladder.accepted[0] / draws == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))


# ---- bookkeeping ----


def test_round_trips_are_those_of_the_walkers_histories() -> None:
    temperatures, ladder, generator = (300.0, 330.0, 360.0, 400.0), Ladder.start(4), np.random.default_rng(2)
    history = [ladder.walkers]
    for n in range(400):
        ladder, _ = ladder.exchange(temperatures, generator.normal(size=4).tolist(), 3, n)
        history.append(ladder.walkers)
    assert sorted(ladder.walkers.tolist()) == [0, 1, 2, 3]
    for walker in range(4):
        ends = [e for w in history for e in ([0] if w[0] == walker else [3] if w[-1] == walker else [])]
        while ends and ends[0] == 3:
            ends.pop(0)
        changes = sum(1 for a, b in itertools.pairwise(ends) if (a, b) == (3, 0))
        assert ladder.trips[walker] == changes
    assert ladder.trips.sum() > 10


def test_even_and_odd_pairs_take_turns() -> None:
    ladder = Ladder.start(4)
    for n in range(6):
        ladder, _ = ladder.exchange((300.0, 310.0, 320.0, 330.0), (0.0,) * 4, 1, n)
    assert ladder.attempted.tolist() == [3, 3, 3]


@pytest.mark.parametrize(("text", "expected"), [("300:450:3", (300.0, 367.423, 450.0)), ("300,310.5", (300.0, 310.5))])
def test_ladders_are_read(text: str, expected: tuple[float, ...]) -> None:
    assert temperature_ladder(text) == expected


@pytest.mark.parametrize("text", ["300:450", "450:300:4", "300:450:1", "a,b", "", "0:10:3", "1:2:3:4"])
def test_what_is_no_ladder_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected LOW:HIGH:COUNT"):
        temperature_ladder(text)


@pytest.mark.parametrize(
    "change",
    [{"temperatures_K": [300.0]}, {"temperatures_K": [310.0, 300.0]}, {"temperature_K": 310.0}, {"replicas": 2}],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"temperature|replicas"):
        ExchangeSettings.parse({"ns": 1.0, "temperatures_K": [300.0, 310.0]} | change)


# ---- runs ----


def short(steps: int, **changes: Any) -> ExchangeSettings:
    base = {
        "solvent": "vacuum",
        "ns": steps * 4e-6,
        "platform": "Reference",
        "report_ps": 0.04,
        "exchange_ps": 0.1,
        "temperatures_K": (300.0, 330.0, 370.0),
    }
    return ExchangeSettings.parse(base | changes)


@pytest.fixture(scope="module")
def whole(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exchange") / "whole"
    exchange(ala2, Vacuum(), short(200), directory, 5)
    return directory


def same(first: Path, second: Path) -> None:
    names = [LOG, *(f"state-0{k}/{name}" for k in range(3) for name in ("log.csv", "trajectory.xtc"))]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    a, b = Checkpoint.load(first), Checkpoint.load(second)
    assert a.step == b.step
    for key, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[key], err_msg=key)


def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(
    ala2: Molecule, whole: Path, tmp_path: Path
) -> None:
    class StopAfter:
        def __init__(self, stop: StopRequest) -> None:
            self.calls, self.stop = 0, stop

        def advance(self, steps: int) -> None:
            self.calls += 1
            if self.calls == 3:
                self.stop.ask("test", 0)

    stop = StopRequest()
    first = exchange(ala2, Vacuum(), short(200), tmp_path / "r", 5, watch=Watch((), StopAfter(stop), stop))
    assert (first.status, first.step) == ("stopped", 75)
    for name in (LOG, "state-01/log.csv", "state-02/trajectory.xtc"):  # a kill leaves more than the checkpoint knows
        with open(tmp_path / "r" / name, "ab") as handle:
            handle.write(b"17,0.3")
    assert exchange(ala2, Vacuum(), short(200), tmp_path / "r", 5, "resume").status == "complete"
    same(whole, tmp_path / "r")


def test_every_temperature_is_a_run_of_its_own(whole: Path) -> None:
    for k, temperature in enumerate((300.0, 330.0, 370.0)):
        run = Run.open(whole / f"state-0{k}")
        assert (run.temperature_K, run.label) == (temperature, "vacuum")
        assert run.replicas[0].positions().shape == (20, 22, 3)
        np.testing.assert_array_equal(run.replicas[0].column("step"), 10 * np.arange(1, 21))


def test_statistics_are_in_the_record(whole: Path) -> None:
    found = json.loads((whole / "run.json").read_text())
    assert found["exchange"]["attempted"] == [4, 4]
    assert len(found["exchange"]["round_trips"]) == 3
    assert len((whole / LOG).read_text().splitlines()) == 9


def test_a_finished_run_can_be_made_longer(ala2: Molecule, whole: Path, tmp_path: Path) -> None:
    exchange(ala2, Vacuum(), short(100), tmp_path / "r", 5)
    exchange(ala2, Vacuum(), short(200), tmp_path / "r", 5, "resume")
    same(whole, tmp_path / "r")


def test_refusals_are_those_of_every_run(ala2: Molecule, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(OccupiedError, match="--resume"):
        exchange(ala2, Vacuum(), short(200), whole, 5)
    with pytest.raises(MissingError, match="without --resume"):
        exchange(ala2, Vacuum(), short(200), tmp_path / "no", 5, "resume")
    with pytest.raises(CheckpointError, match="other settings"):
        exchange(ala2, Vacuum(), short(400, temperatures_K=(300.0, 335.0, 370.0)), whole, 5, "resume")
    with pytest.raises(InputError, match="without box"):
        exchange(ala2, ExplicitWater(padding_nm=0.3), short(50), tmp_path / "box", 5)


def test_an_exchange_takes_a_multiple_time_step(ala2: Molecule, tmp_path: Path) -> None:
    settings = short(40, solvent="obc2", mts_inner_steps=2)
    outcome = exchange(ala2, resolve("obc2", PotentialRequest(ala2)), settings, tmp_path / "mts", 3)
    assert outcome.status == "complete"
    with pytest.raises(InputError, match="not a slow term"):
        exchange(ala2, Vacuum(), settings, tmp_path / "none", 3)
