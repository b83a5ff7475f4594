"""Worker processes: one that is killed or stopped, and a parent that is gone."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlsim.errors import WorkerError
from mlsim.md.signals import Progress, StopRequest, listening
from mlsim.workflow.fan_out import fan_out


@dataclass(frozen=True)
class Job:
    """Leaves its process number, then works until it is asked to stop, and leaves why."""

    place: Path
    number: int

    def __call__(self, progress: Progress | None, stop: StopRequest) -> int:
        """Work."""
        (self.place / f"{self.number}.pid").write_text(str(os.getpid()))
        end = time.monotonic() + 100.0
        while stop.reason is None and time.monotonic() < end:
            time.sleep(0.02)
        (self.place / f"{self.number}.reason").write_text(str(stop.reason))
        return self.number


class Signal:
    """Progress of the parent, asked often: sends a signal to the first worker when both work."""

    def __init__(self, place: Path, number: signal.Signals) -> None:
        self.place, self.number = place, number

    def send(self) -> None:
        paths = [self.place / f"{k}.pid" for k in range(2)]
        while not all(path.exists() and path.read_text() for path in paths):
            time.sleep(0.05)
        os.kill(int(paths[0].read_text()), self.number)


def _with(place: Path, number: signal.Signals, stop: StopRequest) -> tuple[int, ...]:
    child = os.fork()
    if child == 0:
        Signal(place, number).send()
        os._exit(0)
    try:
        return fan_out([Job(place, 0), Job(place, 1)], 2, None, stop)
    finally:
        os.waitpid(child, 0)


def test_a_killed_worker_is_one_line_and_the_others_stop_at_their_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"killed from outside .*--resume"):
        _with(tmp_path, signal.SIGKILL, StopRequest())
    assert (tmp_path / "1.reason").exists()
    assert not (tmp_path / "0.reason").exists()


def test_a_stop_of_one_worker_stops_all_and_is_said(tmp_path: Path) -> None:
    stop = StopRequest()
    assert _with(tmp_path, signal.SIGTERM, stop) == (0, 1)
    assert (stop.reason, stop.exit_code) == ("SIGTERM to a worker process", 128 + signal.SIGTERM)
    assert (tmp_path / "0.reason").read_text() == "SIGTERM"
    assert (tmp_path / "1.reason").read_text() == "stop requested"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_closed_terminal_asks_for_a_stop_like_every_signal(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with listening() as stop:
            os.kill(os.getpid(), number)
            time.sleep(0.05)
    finally:
        signal.signal(number, before)
    assert (stop.reason, stop.exit_code) == (number.name, 128 + number)


def test_sighup_stays_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
        assert stop.reason is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_workers_whose_parent_was_killed_stop_at_a_checkpoint_and_end(tmp_path: Path) -> None:
    parent = os.fork()
    if parent == 0:
        fan_out([Job(tmp_path, 0), Job(tmp_path, 1)], 2, None, StopRequest())
        os._exit(0)
    paths = [tmp_path / f"{k}.pid" for k in range(2)]
    while not all(path.exists() and path.read_text() for path in paths):
        time.sleep(0.05)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    end = time.monotonic() + 90.0
    pids = [int(path.read_text()) for path in paths]
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert [(tmp_path / f"{k}.reason").read_text() for k in range(2)] == ["the process that began it is gone"] * 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
