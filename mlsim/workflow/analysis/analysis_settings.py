"""What ``fes`` and ``compare`` are asked for, the same in Python, in YAML and on the command line."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from mlsim.analysis import observables
from mlsim.errors import InputError
from mlsim.settings import Settings


class AnalysisSettings(Settings):
    """How data become free-energy surfaces."""

    cv: tuple[str, ...] = Field(
        ("phi", "psi"),
        description="One or two collective variables: phi psi omega chi1 (phi:3 of residue 3, phi:all of every "
        "residue), distance:2.NZ,4.CD, end-to-end, rg, rmsd:FILE, hbonds, salt-bridges, helicity, strand, dssp:3, "
        "module:function.",
    )
    bins: int | None = Field(
        None, ge=2, le=360, description="Number of bins per collective variable (default 24, or those stored)."
    )
    discard_ps: float = Field(0.0, ge=0, description="Start of every run to leave out, ps.")
    temperature_K: float | None = Field(None, gt=0, description="Temperature, K, if the data do not say.")
    top: Path | None = Field(None, description="Topology (PDB, mmCIF) of a trajectory file.")

    @field_validator("cv")
    @classmethod
    def _known(cls, cv: tuple[str, ...]) -> tuple[str, ...]:
        if len(cv) not in (1, 2):
            raise InputError(f"expected one or two collective variables, got {len(cv)}")
        for spec in cv:
            observables.parse(spec)
        return cv
