"""``encode`` in Python: features of every frame of a run or a trajectory from a pretrained encoder.

encode("runs/mine", "beit-contacts", "features.npz")     -> features [F, d], written with frames, times and a record
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.readers.positions import made_whole, require_sound
from mlsim.errors import InputError
from mlsim.files import replacing
from mlsim.repr import images
from mlsim.repr.registry import kinds, load_encoder
from mlsim.repr.shipped_encoders import available
from mlsim.runs import trajectory_file
from mlsim.runs.trajectory import Run
from mlsim.workflow.representations.encode_settings import EncodeSettings

if TYPE_CHECKING:
    import mdtraj


@dataclass(frozen=True)
class EncoderNote:
    """What is said of a shipped encoder."""

    name: str
    kind: str
    inputs: str
    summary: str


def encoders() -> tuple[tuple[EncoderNote, ...], tuple[str, ...]]:
    """The shipped encoders, and the kinds that can be loaded from a directory or hub name."""
    shipped = [EncoderNote(e.name, e.kind, e.inputs, str(e.card.get("summary", ""))) for e in available()]
    return tuple(shipped), tuple(kinds())


def encode(
    trajectory: str | Path,
    encoder: str,
    output: str | Path,
    settings: EncodeSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.floating]:
    """Features of every frame, written as ``.npz``.

    The file holds ``features`` [F, d]; ``frame``, ``replica`` and ``time_ps`` [F]; ``record`` (JSON).

    Parameters
    ----------
    trajectory : str or Path
        Run directory, or trajectory in any format that mdtraj reads.
    encoder : str
        Shipped name, directory, or hub name.
    output : str or Path
        ``.npz`` to write.
    settings : EncodeSettings, optional
    progress : callable, optional
        Told how many frames are encoded, and of how many.

    Returns
    -------
    features : [F, d]

    Raises
    ------
    MissingError, InputError
        No such trajectory or encoder, no such layer or pooling, or frames that are no whole molecule.
    """
    output, settings = Path(output), settings or EncodeSettings()
    if output.suffix != ".npz":
        raise InputError(f"--output: expected a file ending in .npz, got {output}")
    chosen = load_encoder(encoder, device=settings.device)
    frames = solute_frames(Path(trajectory), settings.top, settings.stride)
    inputs = images.prepare(frames.positions, frames.topology, chosen.inputs)
    features = chosen.encode(
        inputs, layer=settings.layer, pool=settings.pool, batch_size=settings.batch_size, progress=progress
    )
    record = {
        "encoder": encoder,
        "kind": chosen.kind,
        "layer": settings.layer,
        "pool": settings.pool,
        "inputs": chosen.inputs.model_dump(mode="json"),
        "trajectory": str(trajectory),
        "stride": settings.stride,
    }
    with replacing(output) as partial, open(partial, "wb") as handle:
        np.savez_compressed(
            handle,
            features=features,
            frame=frames.number,
            replica=frames.replica,
            time_ps=frames.time_ps,
            record=json.dumps(record),
        )
    return features


@dataclass(frozen=True)
class SoluteFrames:
    """Frames of a molecule: positions [F, N, 3] (nm), and where each comes from [F]."""

    positions: NDArray[np.float32]
    topology: mdtraj.Topology
    time_ps: NDArray[np.float64]
    number: NDArray[np.int64]
    replica: NDArray[np.int64]


def solute_frames(trajectory: Path, top: Path | None, stride: int) -> SoluteFrames:
    """Every ``stride``-th frame of a run directory (all replicas) or a trajectory file, without water and ions."""
    if trajectory.is_dir():
        parts = [replica for replica in Run.open(trajectory).replicas if replica.n_frames]
        if not parts:
            raise InputError(f"{trajectory}: no frames in it")
        numbers = [np.arange(0, part.n_frames, stride) for part in parts]
        return SoluteFrames(
            np.concatenate([part.positions()[::stride] for part in parts]),
            parts[0].topology,
            np.concatenate([part.times_ps()[::stride] for part in parts]),
            np.concatenate(numbers),
            np.repeat(np.arange(len(parts)), [len(number) for number in numbers]),
        )
    pdb = trajectory.parent / "topology.pdb" if top is None else top
    found = trajectory_file.load(trajectory, pdb, stride)
    kept = [a.index for a in found.topology.atoms if not a.residue.is_water and a.residue.n_atoms > 1]
    if not kept:
        raise InputError(f"{trajectory}: no molecule besides water and ions in it")
    solute = found.topology.subset(kept)
    bonds = np.array([[a.index, b.index] for a, b in solute.bonds], dtype=np.int64).reshape(-1, 2)
    positions = np.asarray(found.positions[:, kept], dtype=np.float64)
    if found.boxes is not None:
        positions = made_whole(positions, found.boxes, bonds)
    require_sound(positions, bonds, [a.element.symbol for a in solute.atoms], str(trajectory))
    count = len(positions)
    times = np.full(count, np.nan) if found.time_ps is None else found.time_ps
    return SoluteFrames(
        positions.astype(np.float32), solute, times, np.arange(count) * stride, np.zeros(count, dtype=np.int64)
    )
