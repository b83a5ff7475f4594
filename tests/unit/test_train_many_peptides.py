"""Fitting one solvent to many peptides: weights, shelves, resume, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import ArtifactError, InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.fitting.transferable.many_peptides import ManyPeptides, solvent_forces
from mlsim.fitting.transferable.peptide_arrays import Labelling, PeptideArrays, PeptideFrames, shelve
from mlsim.fitting.transferable.peptide_errors import set_errors
from mlsim.fitting.transferable.peptide_fit import born_alone, fit, labelling
from mlsim.models.contract import create
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of

SMALL = {"features": 8, "n_radial": 8, "cutoff_nm": 0.5}
#: Frames of the two peptides: different numbers, so that weights matter.
COUNTS = (120, 40)


@pytest.fixture(scope="module")
def peptides(ala2: Molecule) -> list[PeptideFrames]:
    """Two molecules with forces of a solvent that the model can represent, and noise."""
    molecules = [ala2, build("ACE-GLY-NME")]
    atoms = [solvent_atoms(molecule) for molecule in molecules]
    teacher = create("transferable", {**SMALL, **domain_of(atoms)}, seed=8)
    assert isinstance(teacher, TransferableISSNet)
    torch.nn.init.normal_(teacher.head_out.weight, 0.0, 5.0, generator=torch.Generator().manual_seed(1))
    made = []
    for molecule, described, count in zip(molecules, atoms, COUNTS, strict=True):
        rng = np.random.default_rng(count)
        x = (molecule.positions + rng.normal(0, 0.005, (count, molecule.n_atoms, 3))).astype(np.float32)
        forces = solvent_forces(teacher, described, x) + rng.normal(0, 2.0, x.shape)
        frames = ForceFrames(
            x, forces.astype(np.float32), molecule.atom_types, molecule.charges, molecule.elements, molecule.digest,
            (), np.zeros((count, 0)), np.zeros(count), np.zeros(count, np.int64), np.arange(count) * 1.0,
        )  # fmt: skip
        made.append(PeptideFrames(molecule.name, described, molecule.residue_names, frames))
    return made


def student(peptides: list[PeptideFrames], form: str = "additive") -> TransferableISSNet:
    model = create("transferable", {**SMALL, "form": form, **domain_of([p.atoms for p in peptides])}, seed=3)
    assert isinstance(model, TransferableISSNet)
    return model


def shelved(peptides: list[PeptideFrames], model: TransferableISSNet, directory: Path) -> list[PeptideArrays]:
    return shelve(peptides, directory, 0.25, 2.0, 0.0, 1, labelling(model))


def settings(epochs: int = 4) -> TrainSettings:
    return TrainSettings(epochs=epochs, batch_size=16, learning_rate=1e-2, warmup_steps=2, block_ps=2.0)


def test_training_arrays_are_streamed_from_disk_and_made_once(peptides: list[PeptideFrames], tmp_path: Path) -> None:
    model = student(peptides)
    arrays = shelved(peptides, model, tmp_path)
    assert all(isinstance(p.positions, np.memmap) and isinstance(p.labels, np.memmap) for p in arrays)
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.npy"))]
    shelved(peptides, model, tmp_path)
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.npy"))] == times
    shelved(peptides, student(peptides, "scaled"), tmp_path)
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.npy"))] != times


def test_what_stands_beside_the_network_is_taken_off_the_labels(peptides: list[PeptideFrames], tmp_path: Path) -> None:
    additive = shelved(peptides, student(peptides), tmp_path / "a")[0]
    scaled = shelved(peptides, student(peptides, "scaled"), tmp_path / "b")[0]
    frames = additive.held_out.frames
    born = born_alone(student(peptides), 95.0)(additive.atoms, frames.positions)
    np.testing.assert_allclose(scaled.held_labels, remove_rigid(frames.forces, frames.positions), atol=1e-3)
    np.testing.assert_allclose(scaled.held_labels - additive.held_labels, born, atol=2e-2)


def test_held_out_frames_are_no_training_frames(peptides: list[PeptideFrames], tmp_path: Path) -> None:
    for peptide, count in zip(shelved(peptides, student(peptides), tmp_path), COUNTS, strict=True):
        held = peptide.held_out.frames
        assert len(peptide) + len(held) == count
        for x in held.positions - held.positions.mean(axis=1, keepdims=True):
            assert float(np.abs(peptide.positions - x).max(axis=(1, 2)).min()) > 1e-4


@pytest.mark.parametrize("form", ["additive", "screened"])
def test_the_loss_is_the_mean_over_peptides_of_their_mean_squared_errors(
    peptides: list[PeptideFrames], tmp_path: Path, form: str
) -> None:
    model = student(peptides, form)
    torch.nn.init.normal_(model.head_out.weight, 0.0, 0.3, generator=torch.Generator().manual_seed(2))
    arrays = shelved(peptides, model, tmp_path)
    objective = ManyPeptides(model, arrays)
    born = born_alone(model, 95.0)
    errors = []
    for p in arrays:
        forces = solvent_forces(model, p.atoms, p.positions)
        if form == "additive":
            forces = forces - born(p.atoms, p.positions)
        errors.append(np.square(forces - p.labels).mean())
    whole = objective.readable(objective.loss(np.arange(objective.n_frames)).item())
    assert whole == pytest.approx(np.sqrt(np.mean(errors)), rel=1e-4)


def test_a_fit_to_two_peptides_comes_close_to_the_noise(peptides: list[PeptideFrames], tmp_path: Path) -> None:
    model = student(peptides)
    result = fit(model, shelved(peptides, model, tmp_path / "arrays"), settings(40), tmp_path / "fit", "off")
    for row in result.errors.peptides:
        assert row.rms["model"].value < 0.5 * row.rms["obc2"].value
        assert row.gain["obc2"].low > 0
    record = json.loads((tmp_path / "fit" / "result.json").read_text())
    assert set(record["peptides"]) == {p.name for p in peptides}
    assert set(record["held_out"]["residues"]) == {"ACE", "ALA", "GLY", "NME"}
    assert (tmp_path / "fit" / "peptides.csv").read_text().splitlines()[0] == "epoch,alanine-dipeptide,ACE-GLY-NME"


def test_a_resumed_fit_is_the_same_bit_for_bit(peptides: list[PeptideFrames], tmp_path: Path) -> None:
    whole, parts = student(peptides), student(peptides)
    arrays = shelved(peptides, whole, tmp_path / "arrays")
    fit(whole, arrays, settings(), tmp_path / "whole", "off")
    timed = settings().model_copy(update={"max_minutes": 1e-9})
    assert fit(parts, arrays, timed, tmp_path / "parts", "off").stopped == "time"
    resumed = student(peptides)
    fit(resumed, arrays, settings(), tmp_path / "parts", "off", "resume")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    courses = [(tmp_path / name / "peptides.csv").read_text() for name in ("whole", "parts")]
    assert courses[0] == courses[1]


def test_a_peptide_with_unknown_atoms_stops_the_fit_before_it_begins(
    peptides: list[PeptideFrames], tmp_path: Path
) -> None:
    model = student(peptides[1:], "scaled")
    with pytest.raises(ArtifactError, match="alanine-dipeptide: atoms of kinds"):
        fit(model, shelved(peptides, model, tmp_path / "arrays"), settings(), tmp_path / "fit", "off")
    assert not (tmp_path / "fit").exists()


def test_a_peptide_given_twice_is_refused(peptides: list[PeptideFrames], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        shelve([peptides[0], peptides[0]], tmp_path, 0.25, 10.0, 0.0, 1, Labelling())


def test_the_gain_is_the_difference_of_squared_errors_free_of_noise(peptides: list[PeptideFrames]) -> None:
    peptide = peptides[0]
    x, rng = peptide.frames.positions, np.random.default_rng(5)
    truth = remove_rigid(rng.normal(0, 3.0, x.shape), x)
    off = remove_rigid(rng.normal(0, 4.0, x.shape), x)
    noisy = PeptideFrames("a", peptide.atoms, peptide.residues, _with_forces(peptide.frames, truth, rng))
    found = set_errors([noisy], [{"zero": np.zeros_like(x), "far": truth + off, "model": truth}], 10.0)
    row = found.peptides[0]
    assert row.gain["far"].low < np.square(off).mean() < row.gain["far"].high
    assert row.gain["zero"].low < np.square(truth).mean() < row.gain["zero"].high
    assert found.gain["far"] == pytest.approx(row.gain["far"].value)
    pooled = [found.residues[name]["far"] * peptide.residues.count(name) for name in set(peptide.residues)]
    assert sum(pooled) / len(peptide.residues) == pytest.approx(row.gain["far"].value)


def _with_forces(frames: ForceFrames, forces: np.ndarray, rng: np.random.Generator) -> ForceFrames:
    from dataclasses import replace

    return replace(frames, forces=(forces + rng.normal(0, 5.0, forces.shape)).astype(np.float32))
