"""One solvent for any peptide, from packed force data of many to a training directory that can be exported.

    DATA/NAME/start-*.h5 (mlsim data pack) -> training peptides -> fit -> FitRecord, weights
    frames.h5 of one peptide, and a fit to begin at -> the same, for that peptide (fine-tuning)
                                           -> validation peptides -> validation.json (never trained on)

Teachers: the error of a fit has a part that is its own, from the noise of single frames in its batches, and the mean of
several fits has less of it. A fit may learn that mean in place of the frames' forces (``--teachers``): as fast as one
model, nearly as good as all of them. Held-out frames keep their own forces, and the teachers must have held out the
same ones.

The role of a peptide is written in its frames. Validation peptides are for choices (form, cutoff, width) and are
compared with every generalized-Born model on the same frames; test peptides are in no such set at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.packed import unpack_set
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import InputError
from mlsim.files import write_json
from mlsim.fitting.solvent.engine import use_threads
from mlsim.fitting.transferable.many_peptides import solvent_forces
from mlsim.fitting.transferable.peptide_arrays import Labelling, PeptideFrames, shelve
from mlsim.fitting.transferable.peptide_errors import SetErrors, set_errors
from mlsim.fitting.transferable.peptide_fit import PeptideFit, fit, labelling
from mlsim.models import weights
from mlsim.models.contract import create
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of
from mlsim.potentials.born import GB_MODELS
from mlsim.records import FitRecord, full_digest
from mlsim.shapes import Floats
from mlsim.workflow.training.baseline import born_forces, keep_molecule
from mlsim.workflow.training.peptide_settings import PeptideSolventSettings

#: A peptide with its molecule.
Trained = tuple[PeptideFrames, Molecule]
ARRAYS, VALIDATION = "arrays", "validation.json"
#: Length of the blocks of time that intervals on validation peptides are made from, ps.
VALIDATION_BLOCK_PS = 25.0


@dataclass(frozen=True, eq=False)
class SetFit:
    """A finished fit and its errors on the validation peptides (None if the set has none)."""

    fit: PeptideFit
    validation: SetErrors | None


def peptides_of(data: Path, role: Literal["training", "validation"]) -> Iterator[tuple[PeptideFrames, Molecule]]:
    """Peptides of a packed set that have ``role``.

    Raises
    ------
    MissingError, InputError
        No packed frames, damaged ones, frames without a role, or of another molecule than their name says.
    """
    for name, frames in unpack_set(data).items():
        if _role(name, frames) != role:
            continue
        molecule = build(name)
        if molecule.digest != frames.molecule_digest:
            raise InputError(f"{data / name}: the frames are of another molecule than {name}")
        yield PeptideFrames(name, solvent_atoms(molecule), molecule.residue_names, frames), molecule


def train_peptides(
    data: Path,
    directory: Path,
    settings: PeptideSolventSettings,
    progress: Literal["auto", "off"] = "auto",
    start: Literal["new", "resume"] = "new",
) -> SetFit:
    """Fit one solvent to all training peptides of a packed set.

    Parameters
    ----------
    data : Path
        Directory of ``mlsim data pack``; or force frames (``.h5``) of the one peptide ``settings.system``.
    directory : Path
        Training directory.

    Raises
    ------
    MissingError, InputError
        As :func:`peptides_of`; or if no peptide is for training, or the fit to begin at is no solvent for any peptide.
    OccupiedError, CheckpointError, StorageError, UnphysicalError
        As every fit.
    """
    if settings.threads is not None:
        use_threads(settings.threads)
    chosen, held = _data(data, settings.system)
    model, begun_from = _model(settings, [peptide.atoms for peptide, _ in chosen])
    training = settings.training()
    arrays = shelve(
        (peptide for peptide, _ in chosen),
        directory.parent / f".{directory.name}-{ARRAYS}",
        settings.held_out,
        settings.block_ps,
        settings.gap_ps,
        settings.split_seed,
        taught(labelling(model), settings, chosen),
    )
    result = fit(model, arrays, training, directory, progress, start, begun_from)
    keep_molecule(chosen[0][1], directory)
    judged = validation_errors(model, held) if held else None
    if judged is not None:
        write_json(directory / VALIDATION, judged.as_dict())
    return SetFit(result, judged)


def _data(data: Path, system: str | None) -> tuple[list[Trained], list[Trained]]:
    """Peptides to train on, and those for validation."""
    if data.is_file():
        if system is None:
            raise InputError(f"{data}: one file of frames; name its molecule with --system")
        molecule, frames = load_system(system).solute_molecule(), ForceFrames.load(data)
        if molecule.digest != frames.molecule_digest:
            raise InputError(f"{data}: the frames are of another molecule than {molecule.name}")
        return [(PeptideFrames(molecule.name, solvent_atoms(molecule), molecule.residue_names, frames), molecule)], []
    if system is not None:
        raise InputError(f"--system {system}: {data} is a set of many peptides, which say their names themselves")
    chosen = list(peptides_of(data, "training"))
    if not chosen:
        raise InputError(f"{data}: no peptide with the role 'training'")
    return chosen, list(peptides_of(data, "validation"))


def _model(settings: PeptideSolventSettings, atoms: list[SolventAtoms]) -> tuple[TransferableISSNet, str | None]:
    """The network to train, and what its weights come from if they are not random."""
    if settings.begin_at is not None:
        model = weights.load(settings.begin_at).float()
        if not isinstance(model, TransferableISSNet):
            raise InputError(f"--begin-at {settings.begin_at}: a model of kind {model.kind}, expected transferable")
        return model, full_digest((settings.begin_at / weights.WEIGHTS).read_bytes())[:16]
    # validation peptides lie inside the domain by design: their kinds are those of the amino acids
    config = settings.model_dump(include={"form", "features", "blocks", "n_radial", "cutoff_nm", "dielectric"})
    model = create("transferable", {**config, **domain_of(atoms, settings.shells)}, settings.seed)
    assert isinstance(model, TransferableISSNet)
    return model, None


def taught(labels: Labelling, settings: PeptideSolventSettings, peptides: Sequence[Trained]) -> Labelling:
    """Labels by the mean force of the teachers, if there are any.

    Raises
    ------
    MissingError, InputError
        A teacher that is no fit to many peptides, or one to other frames or with another split: what it was trained on
        would be held out here.
    """
    if not settings.teachers:
        return labels
    expected = {peptide.name: peptide.frames.digest for peptide, _ in peptides}
    divided = ((1 - settings.held_out, settings.held_out, 0.0), settings.block_ps, settings.gap_ps, settings.split_seed)
    models, names = [], []
    for teacher in settings.teachers:
        record, model = FitRecord.read(teacher), weights.load(teacher)
        if not isinstance(model, TransferableISSNet) or record.peptides is None or record.split is None:
            raise InputError(f"--teachers {teacher}: expected a fit of mlsim train peptides, got one of {record.kind}")
        if {name: str(told["digest"]) for name, told in record.peptides.items()} != expected:
            raise InputError(f"--teachers {teacher}: trained on other frames than these; expected the same set")
        found = (record.split.fractions, record.split.block_ps, record.split.gap_ps, record.split.seed)
        if not np.allclose([*found[0], *found[1:]], [*divided[0], *divided[1:]]):
            raise InputError(
                f"--teachers {teacher}: frames that are held out here were trained on there (split {found}, here "
                f"{divided}); give all the same --held-out, --block-ps, --gap-ps and --split-seed"
            )
        models.append(model)
        names.append(record.identity)

    def mean_force(atoms: SolventAtoms, positions: Floats) -> Floats:
        forces: Floats = np.mean([solvent_forces(model, atoms, positions) for model in models], axis=0)
        return forces

    return replace(labels, taught=mean_force, teachers=tuple(names))


def validation_errors(model: TransferableISSNet, held: list[tuple[PeptideFrames, Molecule]]) -> SetErrors:
    """Errors of ``model`` and of every generalized-Born model on whole peptides."""
    predicted = []
    for peptide, molecule in held:
        positions = np.asarray(peptide.frames.positions, dtype=np.float64)
        forces = {"zero": np.zeros_like(positions)}
        forces |= {name: born_forces(name, molecule, positions) for name in GB_MODELS}
        predicted.append({**forces, "model": solvent_forces(model, peptide.atoms, positions)})
    return set_errors([peptide for peptide, _ in held], predicted, VALIDATION_BLOCK_PS)


def _role(name: str, frames: ForceFrames) -> str:
    parts = frames.provenance.get("joined", [frames.provenance])
    roles = {part.get("role") for part in parts}
    if len(roles) != 1 or roles == {None}:
        raise InputError(f"{name}: its frames do not say whether they are for training or validation; pack them again")
    return str(roles.pop())
