"""The card of a force field: what it is, what it was trained on, how well it does, and whether it was verified.

A card is plain YAML and a person can read it. Every field is declared here; a reader refuses a card with others, so a
field cannot be misspelt into silence. The card holds the SHA-256 of every other file of the artifact; the record of the
verification holds a digest over those, so that a file cannot be exchanged behind a verification that passed.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from mlsim.records import digest_of
from mlsim.settings import Settings

#: Version of the directory layout and of the card.
FORMAT = 1


class Units(Settings):
    """Units of the exported function; there is one choice, stated so that nobody has to guess."""

    positions: Literal["nm"] = "nm"
    energy: Literal["kJ/mol"] = "kJ/mol"
    forces: Literal["kJ/mol/nm"] = "kJ/mol/nm"


class Atoms(Settings):
    """The molecule that ``model.pt`` was exported for, atom by atom."""

    molecule: str
    molecule_digest: str
    types: tuple[str, ...]
    charges_e: tuple[float, ...]


class Measured(Settings):
    """A number with its 95 % interval, e.g. an error on held-out frames."""

    quantity: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""


class Training(Settings):
    """Where the weights come from."""

    data_digest: str = "none"
    data: str = "none"
    frames: int = Field(0, ge=0)
    atom_types: tuple[str, ...] = ()
    settings_digest: str = ""
    seed: int | None = None
    held_out: tuple[Measured, ...] = ()
    notes: str = ""


class TableNote(Settings):
    """Error of the tabulated filters against the network's, relative root mean squares.

    ``force_change`` is what it does to the forces of the molecule that the force field was exported for (older cards
    do not say).
    """

    intervals: int
    value_error: float
    slope_error: float
    force_change: float | None = None


class CheckResult(Settings):
    """One check of the verification: it passes when ``value <= bound``."""

    name: str
    value: float
    bound: float
    passed: bool
    unit: str = ""
    note: str = ""


class Verification(Settings):
    """Result of ``mlsim verify`` for the files with digest ``files_digest``."""

    passed: bool
    files_digest: str
    date: str
    versions: dict[str, str | None]
    checks: tuple[CheckResult, ...]


class Description(Settings):
    """What the exporter says about a model; the rest of the card is measured.

    Attributes
    ----------
    role : {"solvation", "potential"}
        Whether the energy stands on top of the solute's molecular mechanics (and the card's ``baseline``), or alone.
    scope : {"molecule", "types"}
        What it may be used for: the molecule it was trained on, or any molecule made of its training's atom types.
    force_field, water : str
        OpenMM names of the models that the training data came from.
    temperature_K : float
        Temperature of the training data: a potential of mean force holds at one temperature. None of the three has a
        default: a model of 350 K that says 300 K is worse than none.
    """

    role: Literal["solvation", "potential"] = "solvation"
    scope: Literal["molecule", "types"] = "molecule"
    force_field: str
    water: str
    temperature_K: float = Field(gt=0)
    training: Training = Training()
    licence: str = "MIT"


class Card(Settings):
    """``card.yaml``."""

    format: Literal[1] = 1
    name: str
    kind: str
    units: Units = Units()
    dtype: Literal["float32", "float64"] = "float32"
    cutoff_nm: float | None = None
    baseline: str = "none"
    description: Description
    exported_for: Atoms
    vocabulary: tuple[str, ...]
    table: TableNote | None = None
    created: str
    versions: dict[str, str | None]
    files: dict[str, str]
    verified: Verification | None = None

    @property
    def files_digest(self) -> str:
        """Identity of the artifact (16 hex digits): kind and contents of its files."""
        text = json.dumps([self.kind, sorted(self.files.items())])
        return digest_of(text)
