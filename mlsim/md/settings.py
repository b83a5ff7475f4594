"""Settings of a run: what ``mlsim run`` takes on the command line or as YAML, and saves resolved."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlsim.settings import Settings
from mlsim.units import FS_PER_PS, PS_PER_NS, steps_for


class RunSettings(Settings):
    """Everything that decides a trajectory besides the molecule's coordinates.

    Units are in the field names. ``seed: null`` draws one and records it. ``platform: auto`` picks the fastest
    by a short timing; ``threads: 0`` lets that timing choose for the CPU platform.

    ``mts_inner_steps: n`` evaluates the learned or generalized Born solvent once per time step and the molecular
    mechanics n times, every ``timestep_fs`` / n (see :mod:`mlsim.md.integrator`).

    ``learned_every: n`` lets a learned solvent act at every n-th step only, n times as strong, with everything else
    as it is (see :mod:`mlsim.potentials.impulses`).

    ``context``: replicas each in a Context of their own (``separate``), all in one (``shared``), or, on a GPU,
    whichever a short timing finds faster (``auto``; on a CPU separate ones always are).

    ``guard`` watches whether a run with a learned force field stays in the region that it was trained on: ``report``
    says what fraction was outside, ``stop`` also stops the run there.

    ``bias`` flattens the backbone torsions: ``metadynamics`` (well-tempered, grows), the ``bias.npz`` of an earlier
    run (fixed; frames reweight exactly), or ``none``. The ``hill`` fields and ``bias_factor`` are for metadynamics.
    """

    system: str = "alanine-dipeptide"
    solvent: str = "issnet"
    ns: float = Field(gt=0, le=1e6)
    temperature_K: float = Field(300.0, gt=0, le=2000)
    timestep_fs: float = Field(4.0, gt=0, le=10)
    friction_per_ps: float = Field(1.0, gt=0, le=1000)
    mts_inner_steps: int = Field(1, ge=1, le=16)
    learned_every: int = Field(1, ge=1, le=8)
    hydrogen_mass_Da: float = Field(1.5, ge=1.0, le=4.1)
    constraints: Literal["hbonds", "none"] = "hbonds"
    replicas: int = Field(1, ge=1, le=4096)
    context: Literal["auto", "separate", "shared"] = "auto"
    seed: int | None = Field(None, ge=0, lt=2**63)
    platform: Literal["auto", "Reference", "CPU", "CUDA", "OpenCL", "HIP"] = "auto"
    threads: int = Field(0, ge=0, le=1024)
    bridge: Literal["auto", "torch", "python", "cuda"] = "auto"
    report_ps: float = Field(1.0, gt=0)
    format: Literal["xtc", "dcd"] = "xtc"
    checkpoint_minutes: float = Field(1.0, gt=0)
    max_hours: float | None = Field(None, gt=0)
    bias: str = "none"
    hill_height_kJ_mol: float = Field(1.0, gt=0)
    hill_width_rad: float = Field(0.35, gt=0, le=3)
    hill_every_ps: float = Field(2.0, gt=0)
    bias_factor: float = Field(6.0, gt=1)
    guard: Literal["none", "report", "stop"] = "none"
    runaway_temperature_K: float = Field(3000.0, gt=0)

    @property
    def timestep_ps(self) -> float:
        """Integration step, ps."""
        return self.timestep_fs / FS_PER_PS

    @property
    def total_steps(self) -> int:
        """Integration steps per replica."""
        return steps_for(self.ns * PS_PER_NS, self.timestep_fs)

    @property
    def report_steps(self) -> int:
        """Steps between frames (one log row per frame)."""
        return steps_for(self.report_ps, self.timestep_fs)
