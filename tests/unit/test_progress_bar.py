"""Progress where the output is no terminal: a line a minute with rate and time left."""

from __future__ import annotations

import pytest

from mlsim import progress_bar
from mlsim.progress_bar import Bar, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress_bar.time, "monotonic", found.monotonic)
    return found


def test_a_long_job_says_a_line_a_minute_with_speed_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Bar(1000, 0, "training", "frames") as bar:
        bar.describe("held out 40.0")
        for _ in range(31):  # 10 units in 20 s
            clock.now += 20.0
            bar.update(10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "training: 3 % done, held out 40.0, 0.5 frames/s, about 32 min left"
    assert lines[-1].endswith("about 23 min left")


def test_a_short_job_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(10, 0, "training", "frames") as bar:
        for _ in range(10):
            clock.now += 5.0
            bar.update(1)
    assert capsys.readouterr().err == ""


def test_what_earlier_calls_did_counts_as_done_and_not_as_speed(clock: Clock) -> None:
    bar = Bar(1000, 900, "simulation")
    for _ in range(3):
        clock.now += 60.0
        bar.update(10)
    assert bar.line(clock.now) == "simulation: 93 % done, about 7 min left"


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "1 min"), (3540, "59 min"), (3660, "1 h 1 min"), (90000, "1 d 1 h"), (1e6, "11 d 13 h")]
)
def test_times_are_said_to_two_places(seconds: float, words: str) -> None:
    assert duration(seconds) == words
