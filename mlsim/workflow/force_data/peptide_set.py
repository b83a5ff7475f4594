"""A set of explicit-water force data over many peptides, made from one manifest: what, how long, and in which state.

    data.yaml (peptides, ns, role, how) -> segments (peptide, k) -> DIR/NAME/seed-NNNN -> NAME/start-NNN.h5 (packed)

Each peptide's nanoseconds are cut into *segments* of equal length. Segment k begins at the k-th designed conformation
(:mod:`mlsim.chem.conformers`) in a box of its own and runs under a fixed bias that flattens the backbone, put together
from one surface per kind of residue. Segments are made round by round (k = 0 of all peptides first), so that whatever
time there was, the set covers every peptide alike; asking for more nanoseconds adds segments and changes none.

Force labels need no Boltzmann weights, so neither the starts nor the bias have to be corrected for; a segment's first
picoseconds, in which the water settles around a solute that was put there, are left out.

State is on disk only: a segment is done when its run record says so, and a killed one goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from mlsim import limits
from mlsim.chem.molecule import Molecule
from mlsim.chem.sequence import parse
from mlsim.chem.torsions import ramachandran_atoms
from mlsim.errors import InputError, MlsimError, SettingsError
from mlsim.md.settings import ReferenceSettings
from mlsim.potentials.dihedral_bias import DihedralBias
from mlsim.records import RUN_FILE, RunRecord
from mlsim.settings import Settings
from mlsim.units import PS_PER_NS
from mlsim.workflow.force_data.reference import seed_directory

Role = Literal["training", "validation"]
GENERAL = "general"


class PeptideEntry(Settings):
    """One peptide of the set."""

    sequence: str = Field(description="Sequence of the peptide.")
    ns: float = Field(gt=0, description="Explicit water in all, ns.")
    role: Role = Field("training", description="Use of the frames: training, or validation (choices only).")


class Manifest(Settings):
    """What ``mlsim data`` reads: the peptides, and how their data are made."""

    temperature_K: float = Field(gt=0, description="Temperature, K.")
    timestep_fs: float = Field(gt=0, description="Time step, fs.")
    hydrogen_mass_Da: float = Field(ge=1.0, le=4.1, description="Mass of solute hydrogens, Da.")
    padding_nm: float = Field(gt=0, description="Least distance from the solute to the box face, nm.")
    ions: Literal["neutralise", "none"] = Field(description="Counter-ions, or the uniform background of PME.")
    equilibration_ps: float = Field(gt=0, description="Length of the constant-pressure run before a segment, ps.")
    segment_ns: float = Field(gt=0, description="Length of a segment, ns.")
    record_ps: float = Field(gt=0, description="Time between frames, ps.")
    discard_ps: float = Field(ge=0, description="Beginning of every segment that is left out, ps.")
    biases: str = Field(description="File of the bias surfaces, beside the manifest.")
    test: tuple[str, ...] = Field(description="Sequences that must never be in the set.")
    peptides: tuple[PeptideEntry, ...] = Field(description="The set.")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read and check a manifest.

        Raises
        ------
        MissingError, SettingsError
            No such file, unknown keys, a peptide that is given twice or is a test peptide, or that cannot be read.
        """
        manifest = cls.from_yaml(path)
        seen: dict[str, str] = {}
        forbidden = {parse(sequence).text for sequence in manifest.test}
        for entry in manifest.peptides:
            text = parse(entry.sequence).text
            if text in seen:
                raise SettingsError(f"{path}: {entry.sequence} is given twice")
            if text in forbidden:
                raise SettingsError(f"{path}: {entry.sequence} is a test peptide and must not be in the set")
            seen[text] = entry.sequence
        return manifest

    @property
    def total_ns(self) -> float:
        """Explicit water asked for, ns, in whole segments."""
        return sum(self.segments_of(entry) for entry in self.peptides) * self.segment_ns

    def segments_of(self, entry: PeptideEntry) -> int:
        """Number of segments of a peptide (its nanoseconds rounded to whole segments, at least one)."""
        return max(1, round(entry.ns / self.segment_ns))

    def settings(self, entry: PeptideEntry, bias: Path, threads: int) -> ReferenceSettings:
        """Settings of one segment."""
        return ReferenceSettings(
            system=entry.sequence,
            engine="gromacs",
            ns=self.segment_ns,
            bias=str(bias),
            temperature_K=self.temperature_K,
            timestep_fs=self.timestep_fs,
            hydrogen_mass_Da=self.hydrogen_mass_Da,
            padding_nm=self.padding_nm,
            ions=self.ions,
            box_equilibration_ps=self.equilibration_ps,
            record_ps=self.record_ps,
            threads=threads,
        )


@dataclass(frozen=True)
class Segment:
    """One run of the set.

    Attributes
    ----------
    entry : PeptideEntry
    number : int
        From 0: which designed conformation it begins at.
    home : Path
        Directory of the peptide's runs.
    """

    entry: PeptideEntry
    number: int
    home: Path

    @property
    def seed(self) -> int:
        """Root seed of the run."""
        return self.number + 1

    @property
    def directory(self) -> Path:
        """Run directory."""
        return seed_directory(self.home, self.seed)

    @property
    def state(self) -> str:
        """``waiting``, ``begun``, ``done`` or ``failed`` (with a file that says why)."""
        if (self.directory / FAILED).is_file():
            return "failed"
        if not (self.directory / RUN_FILE).is_file():
            return "begun" if self.directory.is_dir() else "waiting"
        try:
            return "done" if RunRecord.read(self.directory).status == "complete" else "begun"
        except MlsimError:
            return "begun"


#: File in a run directory that says why the segment was given up.
FAILED = "failed.txt"


def home(directory: Path, entry: PeptideEntry) -> Path:
    """Directory of a peptide's runs."""
    return directory / parse(entry.sequence).text


def segments(manifest: Manifest, directory: Path) -> Iterator[Segment]:
    """All segments, round by round, shorter peptides of a round first as the manifest has them."""
    most = max((manifest.segments_of(entry) for entry in manifest.peptides), default=0)
    for number in range(most):
        for entry in manifest.peptides:
            if number < manifest.segments_of(entry):
                yield Segment(entry, number, home(directory, entry))


def bias_for_kinds(molecule: Molecule, surfaces: Path, temperature_K: float) -> DihedralBias:
    """The fixed bias of a peptide from one surface per kind of residue (``GLY``, ``PRO``, ``general``).

    Raises
    ------
    InputError
        If the file of surfaces cannot be read or lacks the general one.
    """
    try:
        known = {name: np.array(grid, dtype=np.float64) for name, grid in limits.arrays(surfaces).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{surfaces}: not a file of bias surfaces ({error})") from None
    if GENERAL not in known:
        raise InputError(f"{surfaces}: expected a surface '{GENERAL}', got {', '.join(known) or 'none'}")
    labels, _ = ramachandran_atoms(molecule)
    grid = np.array([known.get(label[:3], known[GENERAL]) for label in labels])
    return DihedralBias(molecule, temperature_K, grid)


def discarded_frames(manifest: Manifest) -> int:
    """Frames of a segment that are left out."""
    return int(np.floor(manifest.discard_ps / manifest.record_ps + 1e-9))


def frames_per_segment(manifest: Manifest) -> int:
    """Frames of a segment that are kept."""
    return round(manifest.segment_ns * PS_PER_NS / manifest.record_ps) - discarded_frames(manifest)
