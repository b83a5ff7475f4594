"""Force frames of many peptides, of which the training part is streamed from disk.

A set of hundreds of nanoseconds does not have to fit into memory: each peptide's training frames are written once as
plain arrays (``NAME/positions.npy``, ``NAME/labels.npy``, float32) into a folder of the fit and read as memory maps,
so that a batch touches its own frames only. One peptide at a time is in memory while the arrays are made. The held-out
part is small and stays in memory, as force frames: errors need runs and times.

Labels are without net force and torque (``train.solvent.projection``: no invariant energy can explain these), positions
relative to the centre of their frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.dataset import split
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.files import replacing
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.shapes import Floats

POSITIONS, LABELS, NOTE = "positions.npy", "labels.npy", "made-from.json"
#: Forces [F, N, 3] (kJ/mol/nm) at positions [F, N, 3] (nm) of the given atoms.
AtomForces = Callable[[SolventAtoms, Floats], Floats]


@dataclass(frozen=True)
class Labelling:
    """How labels are made from frames.

    Attributes
    ----------
    beside : callable or None
        Forces that stand beside the network and are taken off.
    taught : callable or None
        Forces of other fits, which training frames have in place of their own; held-out frames keep theirs.
    name : str
        What is taken off, in words.
    teachers : tuple of str
        Identities of those fits.
    """

    beside: AtomForces | None = None
    taught: AtomForces | None = None
    name: str = "nothing"
    teachers: tuple[str, ...] = ()

    def train(self, atoms: SolventAtoms, frames: ForceFrames) -> Floats:
        """Labels [F, N, 3] (kJ/mol/nm) of training frames, float32, without rigid parts."""
        if self.taught is None:
            return self.held_out(atoms, frames)
        return self._labels(atoms, frames, self.taught(atoms, frames.positions))

    def held_out(self, atoms: SolventAtoms, frames: ForceFrames) -> Floats:
        """Labels of held-out frames, from their own forces."""
        return self._labels(atoms, frames, frames.forces)

    def _labels(self, atoms: SolventAtoms, frames: ForceFrames, forces: Floats) -> Floats:
        forces = forces if self.beside is None else forces - self.beside(atoms, frames.positions)
        labels: Floats = remove_rigid(forces, frames.positions).astype(np.float32)
        return labels


@dataclass(frozen=True, eq=False)
class PeptideFrames:
    """Force frames of one peptide with what a transferable solvent must know of it.

    Attributes
    ----------
    name : str
        Sequence.
    atoms : SolventAtoms
    residues : tuple of str, length N
        Residue name of each atom, for errors by kind of residue.
    frames : ForceFrames
    """

    name: str
    atoms: SolventAtoms
    residues: tuple[str, ...]
    frames: ForceFrames

    def __post_init__(self) -> None:
        if not len(self.atoms) == len(self.residues) == self.frames.n_atoms:
            raise InputError(
                f"{self.name}: {len(self.atoms)} atoms, {len(self.residues)} residue names and frames of "
                f"{self.frames.n_atoms} atoms; expected the same number of each"
            )


@dataclass(frozen=True, eq=False)
class PeptideArrays:
    """Training arrays (memory maps) and held-out frames of one peptide.

    Attributes
    ----------
    positions, labels : float32 [F, N, 3], nm and kJ/mol/nm
    held_out : PeptideFrames
    held_labels : float32 [V, N, 3], kJ/mol/nm
        Labels of the held-out frames, made like ``labels``.
    digest : str
        Of the frames that they were made from.
    teachers : tuple of str
        Identities of the fits whose forces the labels are, if they are not the frames' own.
    """

    positions: Any
    labels: Any
    held_out: PeptideFrames
    held_labels: Floats
    digest: str
    teachers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Sequence."""
        return self.held_out.name

    @property
    def atoms(self) -> SolventAtoms:
        """Its atoms."""
        return self.held_out.atoms

    def __len__(self) -> int:
        return len(self.positions)


def shelve(
    peptides: Iterable[PeptideFrames],
    directory: Path,
    held_out: float,
    block_ps: float,
    gap_ps: float,
    seed: int,
    labelling: Labelling,
) -> list[PeptideArrays]:
    """Split every peptide by blocks of time and write its training arrays into ``directory``.

    Arrays that are there already, made from the same frames in the same way, are kept.

    Parameters
    ----------
    peptides : iterable of PeptideFrames
        Taken one at a time.
    directory : Path
    held_out : float
        Share of the frames that is held out.
    block_ps, gap_ps : float, ps
        See :func:`mlsim.dataset.split.by_block`.
    seed : int
        Root seed of the split.
    labelling : Labelling

    Raises
    ------
    InputError
        If no peptide is given, or one is given twice, or a split is not possible.
    StorageError
        If the file system refuses.
    """
    shelved: list[PeptideArrays] = []
    for peptide in peptides:
        if any(other.name == peptide.name for other in shelved):
            raise InputError(f"{peptide.name}: given twice; join its frames first")
        parts = split.by_block(peptide.frames, (1 - held_out, held_out, 0.0), block_ps, seed, gap_ps)
        place = directory / peptide.name
        note = {
            "digest": peptide.frames.digest,
            "split": [held_out, block_ps, gap_ps, seed],
            "taken_off": labelling.name,
            "teachers": list(labelling.teachers),
            "frames": len(parts.train_index),
        }
        if _note(place) != note:
            _write(place, POSITIONS, _centred(parts.train))
            _write(place, LABELS, labelling.train(peptide.atoms, parts.train))
            with replacing(place / NOTE) as partial:
                partial.write_text(json.dumps(note, indent=2) + "\n")
        valid = parts.valid
        shelved.append(
            PeptideArrays(
                np.load(place / POSITIONS, mmap_mode="r"),
                np.load(place / LABELS, mmap_mode="r"),
                PeptideFrames(peptide.name, peptide.atoms, peptide.residues, valid),
                labelling.held_out(peptide.atoms, valid),
                peptide.frames.digest,
                labelling.teachers,
            )
        )
    if not shelved:
        raise InputError("a fit to many peptides: expected frames of at least one, got none")
    return shelved


def _centred(frames: ForceFrames) -> Floats:
    centre = frames.positions.mean(axis=1, keepdims=True, dtype=np.float64)
    centred: Floats = (frames.positions - centre).astype(np.float32)
    return centred


def _note(place: Path) -> Any:
    try:
        return json.loads((place / NOTE).read_text())
    except (OSError, ValueError):
        return None


def _write(place: Path, name: str, values: Floats) -> None:
    with replacing(place / name) as partial, open(partial, "wb") as file:
        np.save(file, values)
