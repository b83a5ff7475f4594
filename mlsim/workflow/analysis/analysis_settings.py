"""What ``fes``, ``compare`` and ``sample`` are asked for, the same in Python, in YAML and on the command line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from mlsim.analysis import observables
from mlsim.errors import InputError
from mlsim.settings import Settings


class AnalysisSettings(Settings):
    """How data become free-energy surfaces."""

    cv: tuple[str, ...] = Field(
        ("phi", "psi"),
        description="Collective variable(s), one or two: phi psi omega chi1 (phi:3 of residue 3, phi:all of every "
        "residue), distance:2.NZ,4.CD, end-to-end, rg, rmsd:FILE, hbonds, salt-bridges, salt-bridge:2,4, helicity, "
        "strand, dssp:3, module:function.",
    )
    bins: int | None = Field(
        None, ge=2, le=360, description="Number of bins per collective variable; by default 24, or those stored."
    )
    discard_ps: float = Field(0.0, ge=0, description="Start of every run to leave out, ps.")
    temperature_K: float | None = Field(None, gt=0, description="Temperature, K, if the data do not say.")

    @field_validator("cv")
    @classmethod
    def _known(cls, cv: tuple[str, ...]) -> tuple[str, ...]:
        if len(cv) not in (1, 2):
            raise InputError(f"expected one or two collective variables, got {len(cv)}")
        for spec in cv:
            observables.parse(spec)
        return cv


class CompareSettings(AnalysisSettings):
    """What ``compare`` takes besides candidates and reference."""

    reference_discard_ps: float | None = Field(
        None, ge=0, description="Start of every run of the reference to leave out, ps; by default as for candidates."
    )
    molecules: Literal["same", "any"] = Field(
        "same", description="Molecules of the candidates: same (that of the reference), or any."
    )
    quantity: tuple[str, ...] = Field((), description="Further quantity of every row, such as overlap.")


class SampleSettings(Settings):
    """What ``mlsim sample`` takes besides target and output."""

    sampler: str = Field(
        "esvgd",
        description="Name of a sampler: svgd, esvgd, noisy-esvgd, kinetic-esvgd, metropolised-esvgd, mala, hmc, "
        "tempering, ...",
    )
    particles: int = Field(100, ge=1, description="Number of particles.")
    gradients: int = Field(500, ge=1, description="Number of gradient evaluations per particle.")
    kernel: str = Field("auto", description="Stein kernel: auto, smooth, pullback, alignment.")
    bandwidth: float | str = Field("median", description="Bandwidth: median, ksd, or a length.")
    stop: Literal["budget", "ksd"] = Field("budget", description="End: budget, or ksd (a plateau of the discrepancy).")
    thin: int = Field(0, ge=0, description="Number of particles kept by Stein thinning; 0 for all.")
    seed: int | None = Field(None, ge=0, description="Root seed; drawn if it is not given.")

    @model_validator(mode="after")
    def _some_are_left(self) -> SampleSettings:
        if self.thin > self.particles:
            raise ValueError(f"expected thin of at most the {self.particles} particles, got {self.thin}")
        return self
