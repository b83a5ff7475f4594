"""Settings of everything that moves, composed of groups: one field stands once, with unit, default and help text.

::

    RunSettings        Dynamics Temperature Hardware Output Bias Replicas Guard    one run, or several replicas of it
    ReferenceSettings  Dynamics Temperature Hardware Output Bias                   explicit water, with force labels
    ExchangeSettings   Dynamics Ladder      Hardware Output                        replica exchange
    LabelSettings      Langevin Temperature Hardware                               labels of held conformations

A group is a base class, so that settings stay one flat mapping of YAML keys, and a function may ask for the group that
it reads (``Hardware``) and take any settings that have it. No settings have a field only to refuse it: a key that does
not belong is an unknown key. Fields come in the order of the bases from the last to the first, which is how pydantic
collects them.

A run that the previous version began is resumed: its ``config.yaml`` differs by keys of an exchange that now are no
longer there, and those are dropped if they hold the default that they always had (:data:`FORMER`); its identity is made
of the values that differ from their defaults, which did not change.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from mlsim.dataset.averaging import LEAST_SAMPLES
from mlsim.errors import InputError
from mlsim.settings import Settings
from mlsim.units import FS_PER_PS, PS_PER_NS, steps_for

R = TypeVar("R", bound="Recorded")
B = TypeVar("B", bound="Bias")

#: Keys that an earlier version wrote into every exchange, with the only value that they could have.
FORMER: dict[str, Any] = {
    "temperature_K": 300.0,
    "replicas": 1,
    "context": "auto",
    "bias": "none",
    "hill_height_kJ_mol": 1.0,
    "hill_width_rad": 0.35,
    "hill_every_ps": 2.0,
    "bias_factor": 6.0,
    "guard": "none",
}
#: Names that keys have now -> those that an earlier version wrote, with which the identities of runs are still made.
FORMER_NAMES = {"box_equilibration_ps": "equilibration_ps", "equilibration_ps": "unrecorded_ps"}


def formerly_named(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run under the names that its identity is made with."""
    return {FORMER_NAMES.get(key, key): value for key, value in values.items()}


class Solute(Settings):
    """What is simulated."""

    system: str = Field(
        "alanine-dipeptide",
        description="Shipped system, directory of mlsim build, PDB file, or sequence such as ACE-ALA-NME.",
    )


class Langevin(Settings):
    """The Langevin middle step."""

    timestep_fs: float = Field(4.0, gt=0, le=10, description="Time step, fs.")
    friction_per_ps: float = Field(1.0, gt=0, le=1000, description="Friction of the Langevin thermostat, 1/ps.")

    @property
    def timestep_ps(self) -> float:
        """Integration step, ps."""
        return self.timestep_fs / FS_PER_PS


class Dynamics(Langevin, Solute):
    """A trajectory: its forces, its length, its step and what holds the bonds."""

    solvent: str = Field(
        "issnet",
        description="Solvent: vacuum, hct, obc1, obc2, gbn, gbn2, tip3p, spce, tip4pew, opc, issnet, issnet:NAME, or a "
        "sum with '+'.",
    )
    ns: float = Field(gt=0, le=1e6, description="Length of each trajectory, ns.")
    mts_inner_steps: int = Field(
        1,
        ge=1,
        le=16,
        description="Number of evaluations of the molecular mechanics per evaluation of a smooth solvent.",
    )
    learned_every: int = Field(
        1, ge=1, le=8, description="Number of steps from one action of a learned solvent to the next."
    )
    hydrogen_mass_Da: float = Field(1.5, ge=1.0, le=4.1, description="Mass of the hydrogens of the solute, Da.")
    constraints: Literal["hbonds", "none"] = Field("hbonds", description="Bonds of fixed length: hbonds or none.")
    runaway_temperature_K: float = Field(
        3000.0, gt=0, description="Instantaneous temperature above which a run ends as unphysical, K."
    )
    equilibration_ps: float = Field(
        10.0,
        ge=0,
        le=1e6,
        description="Equilibration before the first recorded step, from the minimised structure, ps.",
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="Root seed; drawn and recorded if it is not given.")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "unrecorded_ps" not in values:
            return values
        now = {old: new for new, old in FORMER_NAMES.items()}  # written by an earlier version
        return {now.get(key, key): value for key, value in values.items()}

    @property
    def equilibration_steps(self) -> int:
        """Integration steps before the first recorded one."""
        return steps_for(self.equilibration_ps, self.timestep_fs) if self.equilibration_ps else 0

    @property
    def total_steps(self) -> int:
        """Integration steps of a trajectory."""
        return steps_for(self.ns * PS_PER_NS, self.timestep_fs)


class Temperature(Settings):
    """One temperature."""

    temperature_K: float = Field(300.0, gt=0, le=2000, description="Temperature, K.")


class Hardware(Settings):
    """Where it is computed."""

    platform: Literal["auto", "Reference", "CPU", "CUDA", "OpenCL", "HIP"] = Field(
        "auto", description="OpenMM platform: auto, Reference, CPU, CUDA, OpenCL, HIP."
    )
    threads: int = Field(0, ge=0, le=1024, description="Number of threads of the CPU platform; 0 for all.")


class Bridge(Settings):
    """How a learned force reaches OpenMM."""

    bridge: Literal["auto", "torch", "python", "cuda"] = Field(
        "auto",
        description="Way of a learned force into OpenMM: auto, torch (TorchForce), python (PythonForce), cuda (network "
        "on the GPU).",
    )


class Output(Settings):
    """What is written, and how often."""

    report_ps: float = Field(1.0, gt=0, description="Time between frames, ps.")
    format: Literal["xtc", "dcd"] = Field("xtc", description="Format of trajectories: xtc or dcd.")
    checkpoint_minutes: float = Field(1.0, gt=0, description="Wall time between checkpoints, minutes.")
    max_hours: float | None = Field(
        None, gt=0, description="Maximum wall time of this call, hours; then checkpoint and stop."
    )


class Recorded(Output, Hardware, Dynamics):
    """A trajectory that is written to files."""

    @property
    def report_steps(self) -> int:
        """Steps between frames (one log row per frame)."""
        return steps_for(self.report_ps, self.timestep_fs)

    @model_validator(mode="after")
    def _leaves_something(self: R) -> R:
        shortest = min(self.report_ps, getattr(self, "record_ps", self.report_ps))
        if self.total_steps < steps_for(shortest, self.timestep_fs):
            raise InputError(
                f"ns {self.ns:g} ({self.ns * PS_PER_NS:g} ps) is shorter than {shortest:g} ps, the time between frames"
                "; expected one frame at least, make the run longer or report_ps shorter"
            )
        return self


class Bias(Settings):
    """A bias on the backbone torsions, or on collective variables of choice."""

    bias: str = Field(
        "none", description="Bias: none, metadynamics (grows), or path of the bias .npz of an earlier run (fixed)."
    )
    hill_height_kJ_mol: float = Field(1.0, gt=0, description="Height of the first hill of metadynamics, kJ/mol.")
    hill_width_rad: float = Field(0.35, gt=0, le=3, description="Standard deviation of a hill, rad.")
    hill_every_ps: float = Field(2.0, gt=0, description="Time between hills, ps.")
    bias_factor: float = Field(6.0, gt=1, description="Bias factor of well-tempered metadynamics.")
    bias_cv: tuple[str, ...] = Field(
        (),
        max_length=2,
        description="Collective variable that the bias acts on, such as end-to-end or distance:2.NZ,4.CD; two at most. "
        "By default phi and psi of every residue.",
    )
    hill_widths: tuple[float, ...] | None = Field(
        None, description="Standard deviation of a hill along each bias_cv, rad or nm; by default that of the variable."
    )

    @model_validator(mode="after")
    def _bias_fits(self: B) -> B:
        if self.bias_cv and self.bias == "none":
            raise InputError("bias_cv: there is no bias to act on it; expected bias metadynamics, or a bias .npz")
        if self.hill_widths is not None:
            if len(self.hill_widths) != len(self.bias_cv):
                raise InputError(f"hill_widths: expected one for each of {len(self.bias_cv)} bias_cv")
            if not all(width > 0 for width in self.hill_widths):
                raise InputError("hill_widths: expected numbers above 0")
        return self


class Replicas(Settings):
    """Independent trajectories of the same run."""

    replicas: int = Field(1, ge=1, le=4096, description="Number of independent replicas.")
    context: Literal["auto", "separate", "shared"] = Field(
        "auto", description="Contexts of replicas: separate, shared (all in one), or auto (what a GPU does faster)."
    )


class Guard(Settings):
    """Whether leaving the region that a learned force field was trained on matters."""

    guard: Literal["auto", "none", "report", "stop"] = Field(
        "auto",
        description="Action where the force field is unsure: none, report, stop, or auto (report, if it can tell).",
    )


class Canonical(Temperature, Recorded):
    """One trajectory at one temperature."""


class Biased(Bias, Canonical):
    """One trajectory at one temperature, with or without a bias: what the engines of single runs take."""


class RunSettings(Guard, Replicas, Bridge, Biased):
    """What ``mlsim run`` takes: everything that decides its trajectories besides the coordinates of the molecule.

    ``mts_inner_steps: n`` evaluates the learned or generalized Born solvent once per time step and the molecular
    mechanics n times, every ``timestep_fs`` / n (see :mod:`mlsim.md.integrator`); ``learned_every: n`` lets a learned
    solvent act at every n-th step only, n times as strong (see :mod:`mlsim.potentials.impulses`).
    """

    then_fixed_ns: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Length of a second stage under the finished bias of metadynamics, ns; it reweights exactly.",
    )


class ReferenceSettings(Biased):
    """What ``mlsim reference`` takes: a run in explicit water, biased, with force labels every ``record_ps``."""

    solvent: str = Field("tip3p", description="Explicit water: tip3p, spce, tip4pew or opc.")
    engine: Literal["openmm", "gromacs"] = Field("openmm", description="Program that computes: openmm or gromacs.")
    bias: str = Field(
        "metadynamics",
        description="Bias: none, metadynamics (grows), or path of the bias .npz of an earlier run (fixed).",
    )
    padding_nm: float = Field(0.85, gt=0, description="Water around the solute, nm.")
    ions: Literal["neutralise", "none"] = Field(
        "neutralise", description="Counter-ions for a charged solute: neutralise, or none (uniform background)."
    )
    box_equilibration_ps: float | None = Field(
        None, gt=0, description="Length of the constant-pressure run that settles the box, ps; null for 60."
    )
    record_ps: float = Field(0.2, gt=0, description="Time between force labels, ps.")

    @model_validator(mode="after")
    def _is_water(self) -> ReferenceSettings:
        from mlsim.chem.solvent import WATERS  # loads openmm, which the list of options does without

        WATERS.get(self.solvent)
        if self.engine == "gromacs" and self.solvent != "tip3p":
            raise InputError(f"engine gromacs: expected solvent tip3p, got {self.solvent}; use engine openmm")
        if self.engine == "gromacs" and self.bias_cv:
            raise InputError("engine gromacs: a bias_cv is for engine openmm; expected a bias on the backbone torsions")
        return self


class ExchangeSettings(Bridge, Recorded):
    """What ``mlsim exchange`` takes: ``ns`` at each of ``temperatures_K``, an attempt every ``exchange_ps``."""

    temperatures_K: tuple[float, ...] = Field(
        min_length=2,
        max_length=256,
        description="Temperatures, lowest first, K; on the command line LOW:HIGH:COUNT or T1,T2,...",
    )
    exchange_ps: float = Field(1.0, gt=0, description="Time between attempts to exchange, ps.")

    @model_validator(mode="before")
    @classmethod
    def _without_former(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if k not in FORMER or v != FORMER[k]}

    @field_validator("temperatures_K")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < a < b <= 2000 for a, b in itertools.pairwise(values)):
            raise ValueError("expected temperatures in K that rise from above 0 to at most 2000")
        return values

    @property
    def exchange_steps(self) -> int:
        """Integration steps between two attempts."""
        return steps_for(self.exchange_ps, self.timestep_fs)

    def at(self, state: int) -> RunSettings:
        """Settings of the plain run that state ``state`` is equivalent to."""
        values = self.model_dump(exclude={"temperatures_K", "exchange_ps"})
        return RunSettings.model_validate({**values, "temperature_K": self.temperatures_K[state]})


class LabelSettings(Temperature, Hardware, Langevin, Solute):
    """What ``mlsim label`` takes. ``stderr_kJ_mol_nm: null`` samples every label for ``max_ps``."""

    #: Fields that do not decide a label.
    FREE: ClassVar[dict[str, Any]] = {"platform": "auto", "threads": 0}

    engine: Literal["openmm", "gromacs"] = Field("openmm", description="Program that computes: openmm or gromacs.")
    count: int = Field(100, ge=1, description="Number of conformations.")
    seed: int = Field(1, ge=0, lt=2**63, description="Root seed.")
    stderr_kJ_mol_nm: float | None = Field(
        6.0, gt=0, description="Standard error at which a label is done, kJ/mol/nm; null for labels of full length."
    )
    min_ps: float = Field(20.0, gt=0, description="Minimum length of a label, ps.")
    max_ps: float = Field(100.0, gt=0, description="Maximum length of a label, ps.")
    equilibration_ps: float = Field(5.0, ge=0, description="Equilibration before the first sample of a label, ps.")
    record_ps: float = Field(0.04, gt=0, description="Time between samples, ps.")
    move_nm_per_ps: float = Field(0.1, gt=0, description="Speed of the way to the next conformation, nm/ps.")
    padding_nm: float = Field(0.85, gt=0, description="Water around the largest conformation, nm.")

    def identity(self) -> str:
        """Digest of all that decides the labels; they are continued only under the same one."""
        return self.model_copy(update=self.FREE).digest()

    @property
    def samples(self) -> int:
        """Samples of a label of full length."""
        return max(LEAST_SAMPLES, round(self.max_ps / self.record_ps))

    @property
    def least_samples(self) -> int:
        """Samples before the error is looked at."""
        return min(self.samples, max(LEAST_SAMPLES, round(self.min_ps / self.record_ps)))
