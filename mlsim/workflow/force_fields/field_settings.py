"""What ``export`` and ``energy`` are asked for. Loads neither torch nor OpenMM."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from mlsim.errors import InputError
from mlsim.settings import Settings

#: Fewest and most intervals of a filter table.
INTERVALS = (8, 65536)


def plain_name(name: str) -> str:
    """``name`` if it can be the name of a directory of its own.

    Raises
    ------
    InputError
        If it has slashes, is empty, or begins with a dot.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise InputError(f"expected a plain name without slashes, got '{name}'")
    return name


class ExportSettings(Settings):
    """What ``mlsim export`` takes; facts that the training recorded may not be given otherwise."""

    name: str = Field(description="Name of the force field.")
    system: str | None = Field(
        None, description="Molecule that it is for. [default: the known system it was trained on]"
    )
    scope: Literal["molecule", "types"] = Field(
        "molecule",
        description="Scope of use, molecule: this one only; types: any made of the atom types it was trained on.",
    )
    compress: str = Field(
        "auto", description="Grid of the filter table: auto (as fine as needed) or a number of intervals."
    )
    temperature_K: float | None = Field(
        None, gt=0, description="Temperature of the training data, K, if they do not say."
    )
    force_field: str | None = Field(
        None,
        min_length=1,
        description="Force field of the solute in the training data (OpenMM file), if they do not say.",
    )
    water: str | None = Field(
        None, min_length=1, description="Water of the training data (OpenMM file, or none), if they do not say."
    )
    licence: str = Field("MIT", description="Licence of the weights.")
    frames: Path | None = Field(
        None, description="Path of training frames, for the guard, if the training directory has no guard.npz."
    )
    members: tuple[Path, ...] = Field(
        (),
        description="Training directories of a committee, three or more, whose spread says in runs how sure the force "
        "field is (with --frames, the packed set).",
    )
    notes: str = Field("", description="Anything that a user of the force field should know.")

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)

    @field_validator("compress")
    @classmethod
    def _grid(cls, text: str) -> str:
        low, high = INTERVALS
        if text != "auto" and not (text.isdigit() and low <= int(text) <= high):
            raise InputError(f"expected 'auto' or a number of intervals from {low} to {high}, got '{text}'")
        return text

    @property
    def intervals(self) -> int | None:
        """Number of intervals of the filter table; None for as many as needed."""
        return None if self.compress == "auto" else int(self.compress)


class EnergySettings(Settings):
    """How ``mlsim energy`` reads a trajectory."""

    top: Path | None = Field(
        None, description="Path of the PDB file of the solute. [default: topology.pdb beside the trajectory]"
    )
    stride: int = Field(1, ge=1, description="Number of frames from one that is used to the next.")
    threads: int = Field(1, ge=1, le=1024, description="Number of processor threads.")
