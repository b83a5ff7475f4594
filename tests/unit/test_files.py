"""Files and directories appear whole or not at all, and what stands in the way is said in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlsim import files
from mlsim.errors import MissingError, OccupiedError, StorageError


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_the_old_one_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "value.txt"
    files.write_text(path, "old")
    with files.replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.suffix == ".txt"
    assert path.read_text() == "new"
    assert left(path.parent) == ["value.txt"]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    files.write_text(path, "old")
    with pytest.raises(StorageError), files.replacing(path) as partial:
        (partial / "below a file").write_text(str(partial.write_text("half")))
    assert path.read_text() == "old"
    assert left(tmp_path) == ["value.txt"]


def test_a_link_in_the_place_is_replaced_and_what_it_leads_to_is_not_written(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("precious")
    link.symlink_to(precious)
    files.write_text(link, "new")
    assert (precious.read_text(), link.read_text(), link.is_symlink()) == ("precious", "new", False)


def test_the_mode_is_that_of_an_ordinary_file_even_if_the_writer_makes_its_own(tmp_path: Path) -> None:
    path, old = tmp_path / "x.bin", os.umask(0o022)
    try:
        with files.replacing(path) as partial:
            partial.unlink()
            os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_earlier_file_can_keep_another_name(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for text in ("one", "two"):
        with files.replacing(path, keep=tmp_path / "state-before") as partial:
            partial.write_text(text)
    assert (path.read_text(), (tmp_path / "state-before").read_text()) == ("two", "one")


def _below_a_file(base: Path) -> Path:
    (base / "file").write_text("x")
    return base / "file" / "deeper" / "out"


def _loop(base: Path) -> Path:
    (base / "loop").symlink_to(base / "loop")
    return base / "loop" / "out"


def _leads_nowhere(base: Path) -> Path:
    (base / "dangling").symlink_to(base / "nothing")
    return base / "dangling" / "out"


def _too_long(base: Path) -> Path:
    return base / ("x" * 300)


def _pipe(base: Path) -> Path:
    os.mkfifo(base / "pipe")
    return base / "pipe"


def _device(base: Path) -> Path:
    return Path("/dev/null")


def _loop_itself(base: Path) -> Path:
    (base / "loop").symlink_to(base / "loop")
    return base / "loop"


IMPOSSIBLE = [_below_a_file, _loop, _leads_nowhere, _too_long, _pipe, _device, _loop_itself]


@pytest.mark.parametrize("make", IMPOSSIBLE)
@pytest.mark.parametrize("write", [lambda p: files.write_bytes(p, b"x"), files.make_directory])
def test_places_that_cannot_be_are_refused_in_one_line(tmp_path: Path, make, write) -> None:
    place = make(tmp_path)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(StorageError) as refused:
        write(place)
    assert "\n" not in str(refused.value)
    assert str(place) in str(refused.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("make", [m for m in IMPOSSIBLE if m not in (_leads_nowhere,)])
def test_a_new_directory_in_such_a_place_is_refused_too(tmp_path: Path, make) -> None:
    with pytest.raises((StorageError, OccupiedError)), files.new_directory(make(tmp_path)):
        pytest.fail("the block must not begin")


def test_a_directory_is_no_place_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a directory"):
        files.write_text(tmp_path, "x")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EFBIG, "no space left"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "could not be written: Input/output error"),
    ],
)
def test_every_refusal_of_the_system_becomes_one_line(number: int, words: str) -> None:
    with pytest.raises(StorageError, match=words), files.storage("place"):
        raise OSError(number, os.strerror(number))


def test_errors_of_the_package_pass_unchanged() -> None:
    with pytest.raises(MissingError, match="not there"), files.storage("place"):
        raise MissingError("not there")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "big.npz"
    files.write_npz(path, {"x": np.zeros(3)})
    code = (
        "import resource, signal, numpy as np; from mlsim import files; from mlsim.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        f"try: files.write_npz({str(path)!r}, {{'x': np.random.default_rng(1).random(5000)}})\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no space left" in done.stdout
    assert done.stderr == ""
    assert left(tmp_path) == ["big.npz"]
    assert np.load(path)["x"].tolist() == [0, 0, 0]


def test_a_new_directory_comes_whole(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "new"
    with files.new_directory(place) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "a").write_text("a")
        assert not place.exists()
    assert (place / "inner" / "a").read_text() == "a"
    assert left(place.parent) == ["new"]


def test_a_new_directory_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError), files.new_directory(tmp_path / "new") as partial:
        (partial / ("a" * 300)).write_text(str((partial / "a").write_text("a")))
    assert left(tmp_path) == []


def test_an_empty_directory_or_a_link_to_one_may_be_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with files.new_directory(tmp_path / "link") as partial:
        (partial / "a").write_text("a")
    assert left(tmp_path / "empty") == ["a"]


def test_the_second_of_two_writers_of_a_directory_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "new"
    with (
        pytest.raises(OccupiedError, match="meantime; choose another --name"),
        files.new_directory(place, "choose another --name"),
        files.new_directory(place) as first,
    ):
        (first / "first").write_text("first")
    assert left(tmp_path) == ["new"]
    assert left(place) == ["first"]


def test_a_place_that_holds_something_is_occupied(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for place in (tmp_path, tmp_path / "a"):
        with pytest.raises(OccupiedError, match="expected a new or empty directory"):
            files.require_free(place)
    assert files.require_free(tmp_path / "b") == tmp_path / "b"


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os; from mlsim import files\n"
        f"with files.replacing({str(tmp_path / 'a')!r}) as p, files.new_directory({str(tmp_path / 'b')!r}):\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code])
    (tmp_path / "mine").write_text("mine")
    assert len(left(tmp_path)) == 3
    files.clear_partials(tmp_path)
    assert left(tmp_path) == ["mine"]
