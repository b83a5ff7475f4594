"""What ``encode`` is asked for, in a module that loads neither torch nor mdtraj."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mlsim.settings import Settings


class EncodeSettings(Settings):
    """What ``mlsim encode`` takes besides trajectory, encoder and output."""

    top: Path | None = Field(None, description="Path of the PDB file. [default: topology.pdb beside the trajectory]")
    layer: str = Field("last", description="Layer of the encoder; a wrong name lists them.")
    pool: str = Field("mean", description="Pooling of tokens to one row; a wrong name lists the ways.")
    stride: int = Field(1, ge=1, description="Number of frames from one that is used to the next.")
    batch_size: int = Field(256, ge=1, description="Number of frames at a time.")
    device: str = Field("cpu", description="Device of torch: cpu, cuda, ...")
