"""``mlsim encoders`` and ``mlsim encode``: features of a trajectory from a pretrained encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import mdtraj
    import numpy as np
    from numpy.typing import NDArray


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("encoders")(encoders)
    app.command("encode")(encode)


def encoders() -> None:
    """List the shipped encoders: kind, what they take, and what their features are good for."""
    from mlsim.repr.registry import kinds
    from mlsim.repr.shipped_encoders import available

    shipped = available()
    if shipped:
        width = max(len(entry.name) for entry in shipped)
        for entry in shipped:
            print(
                f"{entry.name:<{width}s}  {entry.kind:<5s} {entry.inputs:<14s} {entry.card.get('summary', '')}".rstrip()
            )
    else:
        print("no encoder is shipped with this installation")
    print(f"kinds that can be loaded from a directory or hub name: {', '.join(kinds())}")


def encode(
    trajectory: Annotated[
        Path, typer.Argument(metavar="TRAJ", help="Run directory, or trajectory in any format that mdtraj reads.")
    ],
    encoder: Annotated[str, typer.Option("--encoder", help="Shipped name (mlsim encoders), directory, or hub name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Features to write (.npz).")],
    top: Annotated[Path | None, typer.Option(help="PDB file. [default: topology.pdb beside it]")] = None,
    layer: Annotated[str, typer.Option(help="Layer of the encoder; a wrong name lists them.")] = "last",
    pool: Annotated[str, typer.Option(help="How tokens become one row; a wrong name lists the ways.")] = "mean",
    stride: Annotated[int, typer.Option(min=1, help="Use every n-th frame.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames at a time.")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Features of every frame: mlsim encode runs/mine --encoder NAME -o features.npz.

    The file holds `features` [frames, d]; `frame`, `replica` and `time_ps` [frames]; `record` (JSON).
    """
    import sys

    import numpy as np
    from tqdm import tqdm

    from mlsim.errors import InputError
    from mlsim.files import replacing
    from mlsim.repr import images
    from mlsim.repr.registry import load_encoder

    if output.suffix != ".npz":
        raise InputError(f"--output: expected a file ending in .npz, got {output}")
    chosen = load_encoder(encoder, device=device)
    frames = _read(trajectory, top, stride)
    inputs = images.prepare(frames.positions, frames.topology, chosen.inputs)
    with tqdm(total=len(inputs), desc="encode", unit="frame", disable=not sys.stderr.isatty()) as bar:
        features = chosen.encode(
            inputs,
            layer=layer,
            pool=pool,
            batch_size=batch_size,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    record = {
        "encoder": encoder,
        "kind": chosen.kind,
        "layer": layer,
        "pool": pool,
        "inputs": chosen.inputs.model_dump(mode="json"),
        "trajectory": str(trajectory),
        "stride": stride,
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
    print(f"{output}: {features.shape[0]} frames, {features.shape[1]} features each")


@dataclass(frozen=True)
class _Frames:
    """Frames of a molecule: positions [F, N, 3] (nm), and where each comes from [F]."""

    positions: NDArray[np.float32]
    topology: mdtraj.Topology
    time_ps: NDArray[np.float64]
    number: NDArray[np.int64]
    replica: NDArray[np.int64]


def _read(trajectory: Path, top: Path | None, stride: int) -> _Frames:
    """Every ``stride``-th frame of a run directory (all replicas) or a trajectory file, without water and ions."""
    import numpy as np

    from mlsim.chem.readers.positions import made_whole, require_sound
    from mlsim.errors import InputError
    from mlsim.runs import trajectory_file
    from mlsim.runs.trajectory import Run

    if trajectory.is_dir():
        parts = [replica for replica in Run.open(trajectory).replicas if replica.n_frames]
        if not parts:
            raise InputError(f"{trajectory}: no frames in it")
        numbers = [np.arange(0, part.n_frames, stride) for part in parts]
        return _Frames(
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
    return _Frames(
        positions.astype(np.float32), solute, times, np.arange(count) * stride, np.zeros(count, dtype=np.int64)
    )
