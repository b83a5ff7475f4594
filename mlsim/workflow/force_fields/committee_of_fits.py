"""Fits to the same data with other seeds, as the committee of a force field for any peptide.

FIT-1 .. FIT-M, packed set -> members, and the spread of their forces below which 99.9 % of its frames lie
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlsim.deploy.card import Description
from mlsim.deploy.export import member
from mlsim.deploy.travelling_committee import LEAST, MemberSet, threshold_of
from mlsim.errors import InputError
from mlsim.models import weights
from mlsim.records import FitRecord
from mlsim.workflow.training.peptide_solvent_fit import peptides_of

#: Frames of each peptide that the threshold is made from.
FRAMES = 100


def committee_of(fits: Sequence[Path], frames: Path | None, description: Description) -> MemberSet:
    """The fits as members, with the threshold from the training peptides of a packed set.

    Parameters
    ----------
    fits : sequence of Path
        Training directories.
    frames : Path
        Packed set (``mlsim data pack``).
    description : Description
        Of the force field; the members must be of the same conditions.

    Raises
    ------
    MissingError, InputError
        Fewer than three members, one given twice, of other conditions or another kind, or no packed set.
    """
    if len(fits) < LEAST or len({f.resolve() for f in fits}) < len(fits):
        raise InputError(f"--members: expected {LEAST} or more different training directories, got {len(fits)}")
    if frames is None or not frames.is_dir():
        raise InputError("--members: expected --frames with the packed set that they were trained on")
    records = [FitRecord.read(fit) for fit in fits]
    for fit, record in zip(fits, records, strict=True):
        for key in ("temperature_K", "force_field", "water"):
            expected, found = getattr(description, key), getattr(record, key)
            if found != expected:
                raise InputError(f"{fit}: trained with {key} {found}, expected {expected}")
        if record.kind != "transferable":
            raise InputError(f"{fit}: expected a fit to many peptides (mlsim train peptides), got one of {record.kind}")
        if any(other.identity == record.identity for other in records if other is not record):
            raise InputError(f"{fit}: the same fit as another member; a spread needs fits of other seeds or sizes")
    models = [weights.load(fit) for fit in fits]
    untold = MemberSet(records[0].kind, tuple(member(model) for model in models), 1.0)
    spreads = []
    for peptide, molecule in peptides_of(frames, "training"):
        chosen = np.linspace(0, len(peptide.frames) - 1, min(FRAMES, len(peptide.frames))).astype(int)
        positions = np.asarray(peptide.frames.positions[chosen], dtype=np.float64)
        spreads.append(untold.bind(molecule).distance(positions))
    return MemberSet(untold.kind, untold.members, threshold_of(spreads))
