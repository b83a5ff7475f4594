"""What ``mlsim design`` is asked for, in a module that loads neither torch nor OpenMM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mlsim.chem.sequence import ONE_TO_THREE
from mlsim.settings import Settings

#: One-letter codes of the twenty amino acids.
AMINO_ACIDS = "".join(sorted(ONE_TO_THREE))


class PropertySettings(Settings):
    """What is averaged, over which simulation."""

    property: Literal["rg", "end-to-end", "helicity"] = Field(
        "rg", description="Property of a simulation: rg, end-to-end (nm), helicity."
    )
    solvent: str = Field("gbn2", description="Solvent of the simulations, as for mlsim run, without a box.")
    ps: float = Field(50.0, gt=0, description="Length of a simulation, ps.")
    discard: float = Field(0.25, ge=0, lt=1, description="Share of a simulation that is left out at its beginning.")
    temperature_K: float = Field(300.0, gt=0, description="Temperature, K.")
    report_ps: float = Field(0.2, gt=0, description="Time between frames, ps.")
    platform: Literal["auto", "Reference", "CPU", "CUDA", "OpenCL", "HIP"] = Field(
        "CPU", description="OpenMM platform: auto, Reference, CPU, CUDA, OpenCL, HIP."
    )
    seed: int = Field(1, ge=0, description="Root seed; every sequence has its own stream.")


class DesignSettings(Settings):
    """A search for sequences."""

    letters: str = Field(AMINO_ACIDS, description="One-letter codes of the amino acids to use.")
    shortest: int = Field(12, ge=1, le=100, description="Least number of residues.")
    longest: int = Field(12, ge=1, le=100, description="Largest number of residues.")
    charge: tuple[float, float] | None = Field(None, description="Wanted net charge, e; Q, or LOW:HIGH.")
    moment: float | None = Field(None, gt=0, description="Helical amphipathic moment that earns all, e.g. 0.8.")
    motif: str | None = Field(None, description="Letters that must stand side by side.")
    simulate: PropertySettings | None = Field(None, description="Simulated property.")
    worst: float | None = Field(None, description="Value of the property that earns nothing.")
    best: float | None = Field(None, description="Value of the property that earns all.")
    method: Literal["multi", "combined", "single", "vanilla", "pg"] = Field(
        "multi", description="Method of learning: multi, combined, single, vanilla, pg."
    )
    calls: int = Field(2000, ge=1, description="Maximum number of sequences that are evaluated.")
    steps: int = Field(1000, ge=1, description="Maximum number of gradient steps.")
    written: int = Field(16, ge=1, description="Number of own sequences that are written at a time.")
    given: tuple[str, ...] = Field((), description="Sequences to learn from.")
    count: int = Field(20, ge=1, description="Number of designs that are reported.")
    seed: int = Field(1, ge=0, description="Root seed.")

    @model_validator(mode="after")
    def _consistent(self) -> DesignSettings:
        if not (self.charge or self.moment or self.motif or self.simulate):
            raise ValueError("nothing is asked for: expected at least one of charge, moment, motif, simulate")
        if self.simulate and (self.worst is None or self.best is None or self.worst == self.best):
            raise ValueError("a simulated property needs two different values: 'worst' (reward 0) and 'best' (100)")
        if self.motif and (set(self.motif) - set(self.letters) or len(self.motif) > self.longest):
            raise ValueError(f"motif '{self.motif}' cannot be written with these letters and lengths")
        if set(self.letters) - set(AMINO_ACIDS):
            raise ValueError(f"letters: expected some of {AMINO_ACIDS}, got '{self.letters}'")
        return self
