"""Locks: one process per directory, held from before the first write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mlsim.errors import OccupiedError, StorageError
from mlsim.files import PARTIAL
from mlsim.locks import LOCK, claim, lock


def test_a_lock_keeps_others_out_and_ends_with_its_block(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(OccupiedError, match="in use"), lock(tmp_path):
        pytest.fail("held twice")
    with lock(tmp_path):
        pass


def test_a_lock_that_is_a_link_is_refused_and_its_target_not_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / LOCK).symlink_to(precious)
    with pytest.raises(StorageError, match="link"), lock(tmp_path):
        pytest.fail("locked through a link")
    assert precious.read_text() == "precious"


def test_a_lock_does_not_empty_what_has_its_name(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("kept")
    with lock(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "kept"


def test_a_pipe_is_no_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(StorageError, match="plain file"), lock(tmp_path):
        pytest.fail("locked a pipe")


def test_a_claimed_directory_is_made_and_goes_again_if_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claim(tmp_path / "a" / "b"):
        raise RuntimeError
    assert not (tmp_path / "a" / "b").exists()
    with claim(tmp_path / "c"):
        (tmp_path / "c" / "x").write_text("kept")
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [LOCK, "x"]


def test_what_killed_writers_left_goes_when_a_directory_is_claimed(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}0123").write_text("half")
    with claim(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("again", [False, True])
def test_a_directory_that_was_removed_or_made_anew_is_no_longer_held(tmp_path: Path, again: bool) -> None:
    with claim(tmp_path / "d") as held:
        held.require_there()
        shutil.rmtree(tmp_path / "d")
        if again:
            (tmp_path / "d").mkdir()
            (tmp_path / "d" / LOCK).touch()
        with pytest.raises(StorageError, match="removed or replaced"):
            held.require_there()
