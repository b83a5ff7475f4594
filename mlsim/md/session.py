"""What every run has: an identity, and an outcome."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from mlsim.chem.molecule import Molecule
from mlsim.md.settings import Recorded
from mlsim.potentials.contract import Potential
from mlsim.potentials.dihedral_bias import DihedralBias
from mlsim.runs.trajectory import Replica

#: Settings that may differ between a run and its continuation.
_FREE = {
    "ns",
    "max_hours",
    "checkpoint_minutes",
    "platform",
    "threads",
    "bridge",
    "replicas",
    "context",
    "bias",
    "guard",
}


@dataclass(frozen=True)
class Outcome:
    """How a call to :func:`simulate` ended: ``complete``, or ``stopped`` with a reason."""

    replica: Replica
    status: Literal["complete", "stopped"]
    reason: str | None
    step: int
    wall_seconds: float


def identity(settings: Recorded, molecule: Molecule, potential: Potential, bias: DihedralBias | None, seed: int) -> str:
    """Digest of all that decides a trajectory; only settings that differ from their defaults enter it."""
    kept = {k: v for k, v in settings.model_dump(mode="json", exclude_defaults=True).items() if k not in _FREE}
    content = [kept, molecule.n_atoms, molecule.elements, potential.describe(), bias and bias.describe(), seed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
