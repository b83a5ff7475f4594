"""The run verb: outputs, restart, refusals, failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openmm import PythonForce, System

from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError, InputError, MissingError, OccupiedError, StorageError, UnphysicalError
from mlsim.md.engines.single import simulate
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials import callback
from mlsim.potentials.dihedral_bias import DihedralBias, Tempering
from mlsim.potentials.placement import Placement
from mlsim.potentials.vacuum import Vacuum
from mlsim.runs import restart
from mlsim.runs.restart import CURRENT, PREVIOUS, Checkpoint, locked
from mlsim.runs.streams import RecordStream, TableStream, cut_back
from mlsim.runs.trajectory import Run

OUTPUTS = ("log.csv", "topology.pdb")


def short(steps: int, **changes: Any) -> RunSettings:
    base = {"solvent": "vacuum", "ns": steps * 4e-6, "platform": "Reference", "report_ps": 0.04, "seed": 5}
    return RunSettings.parse(base | changes)


def growing(molecule: Molecule) -> DihedralBias:
    return DihedralBias(molecule, 300.0, tempering=Tempering(interval_steps=25))


class StopAfter:
    """Progress that asks for a stop once ``steps`` are done."""

    def __init__(self, steps: int, stop: StopRequest) -> None:
        self.left, self.stop = steps, stop

    def advance(self, steps: int) -> None:
        self.left -= steps
        if self.left <= 0:
            self.stop.ask("test", 0)


def interrupted_at(cuts: list[int], total: int, molecule: Molecule, directory: Path, **changes: Any) -> None:
    for number, cut in enumerate([*cuts, total]):
        simulate(
            molecule, Vacuum(), short(cut, **changes), directory, 5, "resume" if number else "new", growing(molecule)
        )


@pytest.mark.parametrize("format", ["xtc", "dcd"])
def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(
    ala2: Molecule, tmp_path: Path, format: str
) -> None:
    simulate(ala2, Vacuum(), short(300, format=format), tmp_path / "whole", 5, bias=growing(ala2))
    interrupted_at([70, 135], 300, ala2, tmp_path / "cut", format=format)
    for name in OUTPUTS:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    whole, cut = (Checkpoint.load(tmp_path / part) for part in ("whole", "cut"))
    assert whole.context == cut.context
    np.testing.assert_array_equal(whole.arrays["bias/grid"], cut.arrays["bias/grid"])
    frames = [mdtraj.load(str(tmp_path / p / f"trajectory.{format}"), top=ala2_top(tmp_path)) for p in ("whole", "cut")]
    np.testing.assert_array_equal(frames[0].xyz, frames[1].xyz)
    assert len(frames[0]) == 30


def ala2_top(directory: Path) -> str:
    return str(directory / "whole" / "topology.pdb")


def test_what_was_written_after_the_checkpoint_is_cut_back(ala2: Molecule, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    simulate(ala2, Vacuum(), short(200), whole, 5)
    simulate(ala2, Vacuum(), short(100), killed, 5)
    for name in ("log.csv", "trajectory.xtc"):  # a kill leaves frames newer than the checkpoint, the last one cut
        with open(killed / name, "ab") as handle:
            handle.write((whole / name).read_bytes()[-777:-13])
    simulate(ala2, Vacuum(), short(200), killed, 5, "resume")
    for name in ("log.csv", "trajectory.xtc"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


def test_stop_request_checkpoints_and_resume_finishes(ala2: Molecule, tmp_path: Path) -> None:
    stop = StopRequest()
    first = simulate(ala2, Vacuum(), short(5000), tmp_path / "r", 5, watch=Watch((), StopAfter(100, stop), stop))
    assert first.status == "stopped"
    assert 0 < first.step < 5000
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "stopped"
    second = simulate(ala2, Vacuum(), short(5000), tmp_path / "r", 5, "resume")
    assert second.status == "complete"
    assert second.replica.n_frames == 500
    np.testing.assert_array_equal(np.diff(second.replica.column("step")), 10)


def test_max_hours_stops_at_a_checkpoint(ala2: Molecule, tmp_path: Path) -> None:
    outcome = simulate(ala2, Vacuum(), short(10**9, max_hours=1e-9), tmp_path / "r", 5)
    assert (outcome.status, outcome.reason) == ("stopped", "max_hours")


def test_frames_and_log_rows_belong_together(ala2: Molecule, tmp_path: Path) -> None:
    simulate(ala2, Vacuum(), short(200), tmp_path / "r", 5)
    run = Run.open(tmp_path / "r")
    replica = run.replicas[0]
    assert replica.positions().shape == (20, 22, 3)
    assert replica.times_ps()[0] == pytest.approx(0.04)
    assert run.temperature_K == 300.0
    assert run.label == "vacuum"
    trajectory = mdtraj.load(str(replica.trajectory_path), top=replica.topology)
    np.testing.assert_allclose(trajectory.time, replica.times_ps(), rtol=1e-5)


def test_same_seed_same_path_and_other_seed_other_path(ala2: Molecule, tmp_path: Path) -> None:
    ends = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        ends.append(simulate(ala2, Vacuum(), short(60), tmp_path / name, seed).replica.positions()[-1])
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


# ---- refusals ----


def test_a_used_directory_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    simulate(ala2, Vacuum(), short(20), tmp_path / "r", 5)
    before = sorted(p.name for p in (tmp_path / "r").iterdir())
    with pytest.raises(OccupiedError, match="--resume"):
        simulate(ala2, Vacuum(), short(20), tmp_path / "r", 5)
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == before


def test_a_directory_in_use_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with locked(tmp_path / "r"), pytest.raises(OccupiedError, match="in use"):
        simulate(ala2, Vacuum(), short(20), tmp_path / "r", 5)


def test_nothing_to_resume_is_said(ala2: Molecule, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="without --resume"):
        simulate(ala2, Vacuum(), short(20), tmp_path / "r", 5, "resume")
    assert not (tmp_path / "r").exists()


def test_another_temperature_cannot_continue_a_run(ala2: Molecule, tmp_path: Path) -> None:
    simulate(ala2, Vacuum(), short(20), tmp_path / "r", 5)
    with pytest.raises(CheckpointError, match="other settings"):
        simulate(ala2, Vacuum(), short(40, temperature_K=310.0), tmp_path / "r", 5, "resume")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_flipped_byte_in_a_checkpoint_never_passes_silently(tmp_path: Path, where: float, value: int) -> None:
    saved = Checkpoint(7, bytes(range(256)) * 4, {"a": 3}, "id", {"bias/grid": np.arange(6.0)})
    saved.save(tmp_path)
    path = tmp_path / CURRENT
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= value
    path.write_bytes(content)
    try:
        found = Checkpoint.load(tmp_path)
    except CheckpointError:
        pass
    else:  # bytes of zip metadata that carry nothing, such as a time stamp
        assert (found.step, found.context, found.streams) == (saved.step, saved.context, saved.streams)
        np.testing.assert_array_equal(found.arrays["bias/grid"], saved.arrays["bias/grid"])


def test_a_corrupted_checkpoint_names_the_way_back(ala2: Molecule, tmp_path: Path) -> None:
    for number, steps in enumerate((20, 40)):
        simulate(ala2, Vacuum(), short(steps), tmp_path / "r", 5, "resume" if number else "new")
    whole = simulate(ala2, Vacuum(), short(60), tmp_path / "whole", 5)
    (tmp_path / "r" / CURRENT).write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=PREVIOUS):
        simulate(ala2, Vacuum(), short(60), tmp_path / "r", 5, "resume")
    (tmp_path / "r" / CURRENT).unlink()
    again = simulate(ala2, Vacuum(), short(60), tmp_path / "r", 5, "resume")
    np.testing.assert_array_equal(again.replica.positions(), whole.replica.positions())


def test_an_output_shorter_than_the_checkpoint_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12")
    with pytest.raises(CheckpointError, match="at least 3 bytes"):
        cut_back(path, 3)
    with pytest.raises(CheckpointError, match="no such file"):
        cut_back(tmp_path / "y", 1)


@pytest.mark.parametrize("kind", ["table", "record"])
def test_a_full_disk_is_one_clear_error(kind: str) -> None:
    full = Path("/dev/full")
    stream = TableStream(full, ("a",)) if kind == "table" else RecordStream(full)
    if isinstance(stream, RecordStream):
        stream.append(np.zeros(3))
    with pytest.raises(StorageError, match="no space left"), restart.storage(full):
        stream.sync()
    with pytest.raises(OSError, match="space"):
        stream.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestep_fs": -2.0}, "timestep_fs"),
        ({"timestep_sf": 2.0}, "did you mean 'timestep_fs'"),
        ({"temperature_K": 0}, "temperature_K"),
        ({"ns": float("nan")}, "ns"),
        ({"replicas": 0}, "replicas"),
        ({"platform": "GPU"}, "platform"),
    ],
)
def test_bad_settings_are_one_line_that_names_the_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        RunSettings.parse({"ns": 1.0} | change)
    assert "\n" not in str(caught.value)


# ---- failures while running ----


@dataclass(frozen=True)
class Scripted:
    """Vacuum plus a callback, for breaking a run on purpose."""

    compute: Callable[[Any], tuple[float, np.ndarray]]
    name: str = "scripted"

    def prepare(self, molecule: Molecule) -> Molecule:
        return molecule

    def add_to(self, system: System, molecule: Molecule, placement: Placement) -> None:
        Vacuum().add_to(system, molecule, placement)
        system.addForce(PythonForce(self.compute))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def after(calls: int, then: Callable[[], tuple[float, np.ndarray]]) -> Callable[[Any], tuple[float, np.ndarray]]:
    count = 0

    def compute(state: Any) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        return (0.0, np.zeros((22, 3))) if count < calls else then()

    return compute


def test_a_nan_energy_stops_the_run_and_keeps_the_last_good_state(ala2: Molecule, tmp_path: Path) -> None:
    potential = Scripted(after(20_000, lambda: (float("nan"), np.zeros((22, 3)))))
    with pytest.raises(UnphysicalError, match="not finite"):
        simulate(ala2, potential, short(10**6), tmp_path / "r", 5)
    kept = mdtraj.load(str(tmp_path / "r" / "last_good.pdb"))
    assert np.isfinite(kept.xyz).all()
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "failed"


def test_a_runaway_names_step_and_worst_atom(ala2: Molecule, tmp_path: Path) -> None:
    kick = np.zeros((22, 3))
    kick[10, 0] = 1e6  # ALA2-CB
    potential = Scripted(after(20_000, lambda: (0.0, kick)))
    with pytest.raises(UnphysicalError, match=r"step \d+.*worst atom .*last good state") as caught:
        simulate(ala2, potential, short(10**6), tmp_path / "r", 5)
    assert caught.value.exit_code == 3
    failure = json.loads((tmp_path / "r" / "failure.json").read_text())
    assert failure["last_good_step"] % 10 == 0


def test_the_callback_s_own_exception_comes_out(ala2: Molecule, tmp_path: Path) -> None:
    def fail() -> tuple[float, np.ndarray]:
        error = InputError("the model refuses this molecule")
        callback.stash(error)
        raise error

    with pytest.raises(InputError, match="refuses this molecule"):
        simulate(ala2, Scripted(after(20_000, fail)), short(10**6), tmp_path / "r", 5)
