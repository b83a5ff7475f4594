"""How an output directory stands, and one rule for every interrupted start.

Why: a start is killed between any two of its files, and what it left must neither be taken for results nor bar the
way. Results are what a checkpoint (or finished part) vouches for; so

    checkpoint and record             begun: it is resumed, nothing begins over it
    checkpoint, no record             refused, with the reason
    records of time, no checkpoint    refused: somebody took the checkpoint away
    only files of a start             what was killed before its first checkpoint: it begins anew
    nothing                           it begins

The record is written before the first checkpoint, so that only a lost file makes the second case. Whoever begins holds
the directory (:func:`mlsim.locks.claim`) from before the first write to after the last: a second call is refused before
it wrote anything.

A :class:`Layout` says which names these are for a kind of directory. A link in the place of one is refused: it leads
out of the directory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlsim.errors import CheckpointError, MissingError, OccupiedError
from mlsim.files import PARTIAL, storage
from mlsim.locks import LOCK

Start = Literal["new", "resume"]


def _always(path: Path) -> bool:
    return True


@dataclass(frozen=True)
class Layout:
    """Names in a kind of directory, as patterns of :meth:`pathlib.PurePath.match`.

    Attributes
    ----------
    what : str
        The kind, for messages: ``run``, ``training``.
    record : str
        File that belongs to every checkpoint.
    checkpoints : tuple of str
        Files that vouch for results; paths relative to the directory.
    own : tuple of str
        Files and directories that a start leaves before its first checkpoint.
    parts : tuple of str
        Directories inside that are laid out alike.
    holds_nothing : callable
        Whether an own file has no results in it yet.
    """

    what: str
    record: str
    checkpoints: tuple[str, ...]
    own: tuple[str, ...]
    parts: tuple[str, ...] = ()
    holds_nothing: Callable[[Path], bool] = _always


@dataclass(frozen=True)
class Standing:
    """What a directory holds: whether a run was begun, what a killed start left, and what is not ours."""

    begun: bool
    leftovers: tuple[Path, ...]
    foreign: tuple[Path, ...]


def standing(directory: Path, layout: Layout) -> Standing:
    """Look at ``directory`` (which may not be there).

    Raises
    ------
    CheckpointError
        A checkpoint without its record, results without a checkpoint, or a link where a file of its own is expected.
    """
    found = _Found([], [], [], [])
    with storage(directory):
        if directory.is_dir():
            _look(directory, layout, found, vouched=False)
    if found.begun:
        for place in dict.fromkeys((directory, *found.begun)):
            if not (place / layout.record).is_file():
                raise CheckpointError(
                    f"{place}: holds a checkpoint, but {layout.record} is missing; restore it, or choose another -o"
                )
    if found.unvouched:
        raise CheckpointError(
            f"{found.unvouched[0]}: holds results of a {layout.what} whose checkpoint is missing; restore it, or "
            "choose another -o"
        )
    return Standing(bool(found.begun), tuple(found.leftovers), tuple(found.foreign))


@dataclass
class _Found:
    begun: list[Path]
    unvouched: list[Path]
    leftovers: list[Path]
    foreign: list[Path]


def _look(directory: Path, layout: Layout, found: _Found, vouched: bool) -> None:
    if any(path.is_file() for pattern in layout.checkpoints for path in directory.glob(pattern)):
        found.begun.append(directory)
        vouched = True
    for path in sorted(directory.iterdir()):
        part = _is_one_of(path, layout.parts)
        if part or _is_one_of(path, (*layout.own, *(p for p in layout.checkpoints if "/" not in p))):
            if path.is_symlink():
                raise CheckpointError(f"{path}: is a link; expected a file or directory of the {layout.what} itself")
            if part and path.is_dir():
                _look(path, layout, found, vouched)
                found.leftovers.append(path)
            elif vouched or layout.holds_nothing(path):
                found.leftovers.append(path)
            else:
                found.unvouched.append(path)
        elif path.name != LOCK and not path.name.startswith(PARTIAL):
            found.foreign.append(path)


def _is_one_of(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(path.match(pattern) for pattern in patterns)


def take(directory: Path, layout: Layout, start: Start) -> Start:
    """Whether what ``directory`` (held) holds is begun or resumed; what a killed start left is removed.

    Parameters
    ----------
    start : {"new", "resume"}
        What was asked for.

    Returns
    -------
    {"new", "resume"}
        ``new`` also for ``resume`` where a start was killed before its first checkpoint.

    Raises
    ------
    OccupiedError
        ``new`` over something that was begun.
    MissingError
        ``resume`` where nothing was begun.
    CheckpointError
        As :func:`standing`.
    """
    decided = _decide(directory, layout, start, standing(directory, layout))
    if decided == "new":
        clear(directory, layout)
    return decided


def require_start(directory: Path, layout: Layout, start: Start) -> Start:
    """What :func:`take` will say, before the directory is held and without a change; files of others are refused too.

    Raises
    ------
    OccupiedError, MissingError, CheckpointError
        As :func:`take`; ``OccupiedError`` also to begin beside files of others, or where a file is.
    """
    with storage(directory):
        if directory.exists() and not directory.is_dir():
            raise OccupiedError(f"{directory}: is a file; expected a new or empty directory, choose another -o")
    now = standing(directory, layout)
    decided = _decide(directory, layout, start, now)
    if decided == "new" and now.foreign:
        raise OccupiedError(
            f"{directory}: not empty and not a {layout.what} ({now.foreign[0].name} is in it); choose another -o"
        )
    return decided


def _decide(directory: Path, layout: Layout, start: Start, now: Standing) -> Start:
    if now.begun:
        if start == "new":
            raise OccupiedError(
                f"{directory}: not empty, already holds a {layout.what}; continue it with --resume or choose another -o"
            )
        return "resume"
    if start == "resume" and not now.leftovers:
        raise MissingError(f"{directory}: no {layout.what} to resume here (no checkpoint); start it without --resume")
    return "new"


def clear(directory: Path, layout: Layout) -> None:
    """Remove what a start left that did not come to its first checkpoint; files of others stay.

    Raises
    ------
    CheckpointError
        As :func:`standing`; also if a checkpoint is there: its results are not removed.
    """
    now = standing(directory, layout)
    if now.begun:
        raise CheckpointError(f"{directory}: holds a {layout.what} that was begun; resume it")
    with storage(directory):
        for path in now.leftovers:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
