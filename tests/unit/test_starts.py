"""One rule for every interrupted start: what a directory holds decides whether a run begins, goes on, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlsim.errors import CheckpointError, MissingError, OccupiedError
from mlsim.runs.restart import RUN
from mlsim.runs.trajectory import COLUMNS
from mlsim.starts import Start, require_start, standing, take

HEADER = ",".join(COLUMNS) + "\n"
#: Files by name that a start can leave before its first checkpoint.
LEFT = {
    "topology.pdb": "ATOM",
    "config.yaml": "ns: 1",
    "run.json": "{}",
    "trajectory.xtc": "",
    "log.csv": HEADER,
    "exchange.csv": "",
    "frames_forces.f32": "",
    "start.npz": "PK",
    "failure.json": "{}",
}


def fill(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.rglob("*"))


@pytest.mark.parametrize("start", ["new", "resume"])
@pytest.mark.parametrize("count", range(1, len(LEFT) + 1))
def test_a_start_that_was_killed_before_its_first_checkpoint_begins_anew(
    tmp_path: Path, start: Start, count: int
) -> None:
    fill(tmp_path, **dict(list(LEFT.items())[:count]))
    fill(tmp_path / "replica-00", **dict(list(LEFT.items())[:count]))
    assert require_start(tmp_path, RUN, start) == "new"
    assert len(names(tmp_path)) == 2 * count + 1  # looking changes nothing
    assert take(tmp_path, RUN, start) == "new"
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["checkpoint.chk", "checkpoint_prev.chk"])
def test_a_checkpoint_beside_its_record_is_resumed_and_never_begun_over(tmp_path: Path, name: str) -> None:
    fill(tmp_path, **{"run.json": "{}", name: "x", "trajectory.xtc": "frames"})
    before = names(tmp_path)
    assert take(tmp_path, RUN, "resume") == "resume"
    with pytest.raises(OccupiedError, match="--resume"):
        take(tmp_path, RUN, "new")
    assert names(tmp_path) == before


@pytest.mark.parametrize("start", ["new", "resume"])
@pytest.mark.parametrize("where", ["", "replica-03/"])
def test_a_checkpoint_whose_record_is_lost_is_refused_with_the_reason(tmp_path: Path, start: Start, where: str) -> None:
    fill(tmp_path, **{"run.json": "{}"} if where else {})
    fill(tmp_path, **{f"{where}checkpoint.chk": "x", f"{where}trajectory.xtc": "frames"})
    before = names(tmp_path)
    with pytest.raises(CheckpointError, match=r"run\.json is missing"):
        take(tmp_path, RUN, start)
    assert names(tmp_path) == before


@pytest.mark.parametrize("start", ["new", "resume"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("trajectory.xtc", "frames"),
        ("trajectory.dcd", "x" * 277),
        ("log.csv", HEADER + "1,2,3,4,5,6\n"),
        ("frames_positions.f32", "xxxx"),
        ("replica-01/trajectory.xtc", "frames"),
    ],
)
def test_results_without_a_checkpoint_are_neither_removed_nor_added_to(
    tmp_path: Path, start: Start, name: str, text: str
) -> None:
    fill(tmp_path, **{"run.json": "{}", "config.yaml": "", name: text})
    with pytest.raises(CheckpointError, match="checkpoint is missing"):
        take(tmp_path, RUN, start)
    assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("name", ["log.csv", "checkpoint.chk", "replica-00"])
def test_a_link_in_the_place_of_an_own_file_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).symlink_to(target)
    with pytest.raises(CheckpointError, match="is a link"):
        standing(tmp_path / "d", RUN)


def test_files_of_others_stay_and_bar_a_verb(tmp_path: Path) -> None:
    fill(tmp_path, **{"notes.txt": "mine", "config.yaml": ""})
    with pytest.raises(OccupiedError, match=r"not a run \(notes.txt"):
        require_start(tmp_path, RUN, "new")
    assert take(tmp_path, RUN, "new") == "new"
    assert names(tmp_path) == ["notes.txt"]


def test_nothing_is_nothing_to_resume(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "not there"):
        with pytest.raises(MissingError, match="without --resume"):
            take(place, RUN, "resume")
        assert take(place, RUN, "new") == "new"
