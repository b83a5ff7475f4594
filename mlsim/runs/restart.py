"""Checkpoints: how a run survives being killed at any moment.

A checkpoint is one ``.npz`` (zip with CRC-32 per member, read without pickle): OpenMM's own checkpoint bytes
(positions, velocities, random-number state, integrator), the byte length of every output stream, and the arrays
of observers such as a metadynamics bias. Writing order: streams are flushed and fsynced, the new checkpoint is
written beside the old one and fsynced, the old one is renamed to ``checkpoint_prev.chk``, the new one takes its
name. A kill between any two of these leaves a usable pair of checkpoint and outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.errors import CheckpointError, MissingError
from mlsim.files import replacing, storage, sync_directory
from mlsim.files import write_text as write_atomically
from mlsim.locks import lock as locked
from mlsim.records import RUN_FILE, RunRecord
from mlsim.runs.streams import STREAMS, holds_nothing
from mlsim.settings import Settings
from mlsim.starts import Layout, standing

__all__ = [
    "CURRENT",
    "PREVIOUS",
    "RUN",
    "Checkpoint",
    "begun",
    "locked",
    "resumed",
    "saved_settings",
    "steps_done",
    "storage",
    "write_atomically",
]

S = TypeVar("S", bound=Settings)

CURRENT = "checkpoint.chk"
PREVIOUS = "checkpoint_prev.chk"
CONFIG = "config.yaml"
#: What a run directory holds, and what of it is there before the first checkpoint.
RUN = Layout(
    what="run",
    record=RUN_FILE,
    checkpoints=(CURRENT, PREVIOUS),
    own=(RUN_FILE, CONFIG, "topology.pdb", "start.npz", "start.pdb", "failure.json", "last_good.pdb", *STREAMS),
    parts=("replica-[0-9]*", "state-[0-9]*"),
    holds_nothing=holds_nothing,
)


@dataclass(frozen=True)
class Checkpoint:
    """State of one replica at ``step``.

    Attributes
    ----------
    step : int
        Integration steps done.
    context : bytes
        ``openmm.Context.createCheckpoint()``.
    streams : dict
        Output file name -> length in bytes at ``step``.
    identity : str
        Digest of what the run is (settings, molecule, potential, platform); resuming anything else is refused.
    arrays : dict
        Observer state by ``observer/name``.
    """

    step: int
    context: bytes
    streams: dict[str, int]
    identity: str
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write to ``directory/checkpoint.chk``, keeping the last one as ``checkpoint_prev.chk``."""
        meta = {"step": self.step, "streams": self.streams, "identity": self.identity, "format": 1}
        content: dict[str, Any] = {
            "meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8),
            "context": np.frombuffer(self.context, dtype=np.uint8),
        }
        content.update({"array:" + name: array for name, array in self.arrays.items()})
        with replacing(directory / CURRENT, keep=directory / PREVIOUS) as partial, open(partial, "wb") as handle:
            np.savez(handle, **content)
        sync_directory(directory)

    @classmethod
    def load(cls, directory: Path) -> Checkpoint:
        """Read the newest checkpoint of ``directory``.

        Raises
        ------
        MissingError
            If there is none.
        CheckpointError
            If the file is damaged.
        """
        path = directory / CURRENT
        if not path.exists():
            path = directory / PREVIOUS  # killed between the two renames
        if not path.exists():
            raise MissingError(f"{directory}: no {CURRENT} to resume from; start the run without --resume")
        if path.is_symlink():
            raise CheckpointError(f"{path}: is a link; expected a checkpoint of this run itself")
        try:
            content = limits.arrays(path, packed=False)
            meta = json.loads(content["meta"].tobytes())
            return cls(
                step=int(meta["step"]),
                context=content["context"].tobytes(),
                streams={str(k): int(v) for k, v in meta["streams"].items()},
                identity=str(meta["identity"]),
                arrays={k.removeprefix("array:"): v for k, v in content.items() if k.startswith("array:")},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            other = directory / PREVIOUS
            advice = (
                f"delete it to resume from {PREVIOUS}"
                if other.exists() and path.name == CURRENT
                else "start a new run in another directory"
            )
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{path}: corrupted checkpoint ({reason}); {advice}") from None


def resumed(directory: Path, start: str, identity: str) -> Checkpoint | None:
    """The checkpoint that a run takes up; None for a new run.

    Raises
    ------
    MissingError
        If there is none to resume.
    CheckpointError
        If it is damaged or of another run.
    """
    if start != "resume":
        return None
    saved = Checkpoint.load(directory)
    if saved.identity != identity:
        raise CheckpointError(
            f"{directory}: the checkpoint belongs to a run with other settings, molecule or solvent; "
            "resume with the settings in its config.yaml"
        )
    return saved


def steps_done(directories: Iterable[Path]) -> int:
    """Steps in the checkpoints of ``directories`` together; one without a checkpoint counts as not begun."""
    total = 0
    for directory in directories:
        try:
            total += Checkpoint.load(directory).step
        except MissingError:
            continue
    return total


def begun(directory: Path) -> bool:
    """Whether ``directory`` holds a run that came to a checkpoint.

    Raises
    ------
    CheckpointError
        As :func:`mlsim.starts.standing`.
    """
    return standing(directory, RUN).begun


def saved_settings(kind: type[S], directory: Path) -> S:
    """The resolved settings that a run saved (its root seed filled in); without ``config.yaml``, those of its record.

    Raises
    ------
    MissingError
        If there is no run.
    """
    path = directory / CONFIG
    if path.is_file():
        return kind.from_yaml(path)
    if not (directory / RUN_FILE).is_file():
        raise MissingError(f"{directory}: no run to resume here (no {CONFIG}); start it without --resume")
    return kind.parse(RunRecord.read(directory).settings, f"{directory / RUN_FILE}")
