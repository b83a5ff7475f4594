"""A solvent fitted to a packed set: roles are kept apart, a set that does not say is refused, labels are met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsim.chem.peptide import build
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.packed import pack, unpack
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import InputError
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.fitting.transferable.many_peptides import solvent_forces
from mlsim.fitting.transferable.peptide_fit import born_alone
from mlsim.models import weights
from mlsim.records import FitRecord
from mlsim.workflow.training.baseline import born_forces
from mlsim.workflow.training.peptide_solvent_fit import PeptideSolventSettings, peptides_of, train_peptides

COUNT = 120
FACTS: dict[str, Any] = {"temperature_K": 300.0, "force_field": "amber14/protein.ff14SB.xml", "water": "TIP3P"}


def packed(name: str, role: str | None, directory: Path, seed: int) -> None:
    """Frames about the built structure whose labels are the forces of GBn2: something to learn beside OBC2."""
    molecule = build(name)
    generator = np.random.default_rng(seed)
    positions = molecule.positions + generator.normal(scale=0.004, size=(COUNT, molecule.n_atoms, 3))
    frames = ForceFrames(
        positions=positions.astype(np.float32),
        forces=born_forces("gbn2", molecule, positions).astype(np.float32),
        atom_types=molecule.atom_types,
        charges=molecule.charges,
        elements=molecule.elements,
        molecule_digest=molecule.digest,
        cv_names=(),
        cvs=np.zeros((COUNT, 0)),
        bias=np.zeros(COUNT),
        run=np.zeros(COUNT, dtype=int),
        time_ps=np.arange(COUNT) * 0.5,
        provenance=FACTS if role is None else {**FACTS, "role": role},
    )
    pack(frames, directory / name / "start-000.h5")


SMALL = PeptideSolventSettings(
    features=16, blocks=1, n_radial=8, epochs=2, block_ps=5.0, gap_ps=0.0, held_out=0.2, form="additive"
)


def test_validation_peptides_are_judged_and_never_trained_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    packed("ACE-GLY-NME", "training", data, 1)
    packed("ACE-ALA-NME", "training", data, 2)
    packed("ACE-ALA-GLY-NME", "validation", data, 3)
    found = train_peptides(data, tmp_path / "fit", SMALL, "off")
    record = FitRecord.read(tmp_path / "fit")
    assert record.peptides is not None
    assert set(record.peptides) == {"ACE-ALA-NME", "ACE-GLY-NME"}
    assert (record.temperature_K, record.water) == (300.0, "amber14/tip3p.xml")
    assert record.split is not None
    assert found.validation is not None
    (row,) = found.validation.peptides
    assert (row.name, row.n_frames) == ("ACE-ALA-GLY-NME", COUNT)
    assert row.rms["gbn2"].value < 0.5  # the labels themselves, to the rounding of the packed file
    assert row.rms["model"].value < row.rms["zero"].value
    written = json.loads((tmp_path / "fit" / "validation.json").read_text())
    assert written["peptides"][0]["name"] == "ACE-ALA-GLY-NME"


def test_frames_without_a_role_are_refused(tmp_path: Path) -> None:
    packed("ACE-GLY-NME", None, tmp_path, 1)
    with pytest.raises(InputError, match="for training or validation"):
        list(peptides_of(tmp_path, "training"))


def test_frames_under_the_name_of_another_peptide_are_refused(tmp_path: Path) -> None:
    packed("ACE-GLY-NME", "training", tmp_path, 1)
    (tmp_path / "ACE-GLY-NME").rename(tmp_path / "ACE-ALA-NME")
    with pytest.raises(InputError, match="another molecule"):
        list(peptides_of(tmp_path, "training"))


def test_a_set_without_training_peptides_is_refused(tmp_path: Path) -> None:
    packed("ACE-GLY-NME", "validation", tmp_path, 1)
    with pytest.raises(InputError, match="no peptide with the role 'training'"):
        train_peptides(tmp_path, tmp_path / "fit", SMALL, "off")


def test_a_fit_learns_the_mean_force_of_its_teachers_and_never_what_they_held_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    packed("ACE-GLY-NME", "training", data, 1)
    packed("ACE-ALA-NME", "training", data, 2)
    for seed in (1, 2):
        train_peptides(data, tmp_path / f"teacher-{seed}", SMALL.model_copy(update={"seed": seed}), "off")
    teachers = (tmp_path / "teacher-1", tmp_path / "teacher-2")
    taught = SMALL.model_copy(update={"seed": 3, "teachers": teachers})
    found = train_peptides(data, tmp_path / "taught", taught, "off")
    record = FitRecord.read(tmp_path / "taught")
    assert "mean force of 2 fits" in str(record.data)
    labels = np.load(tmp_path / ".taught-arrays" / "ACE-GLY-NME" / "labels.npy")
    positions = np.load(tmp_path / ".taught-arrays" / "ACE-GLY-NME" / "positions.npy").astype(np.float64)
    atoms = solvent_atoms(build("ACE-GLY-NME"))
    forces = [solvent_forces(weights.load(fit), atoms, positions) for fit in teachers]  # type: ignore[arg-type]
    own = born_alone(found.fit.model, 95.0)(atoms, positions)
    np.testing.assert_allclose(labels, remove_rigid(np.mean(forces, axis=0) - own, positions), atol=2e-3)
    for change in ({"split_seed": 2}, {"held_out": 0.25}):
        with pytest.raises(InputError, match="frames that are held out here were trained on there"):
            train_peptides(data, tmp_path / "other", taught.model_copy(update=change), "off")
    packed("ACE-SER-NME", "training", data, 5)
    with pytest.raises(InputError, match="trained on other frames"):
        train_peptides(data, tmp_path / "more", taught, "off")


def test_a_fit_is_tuned_to_frames_of_one_peptide(tmp_path: Path) -> None:
    data = tmp_path / "data"
    packed("ACE-GLY-NME", "training", data, 1)
    packed("ACE-ALA-NME", "training", data, 2)
    first = train_peptides(data, tmp_path / "first", SMALL, "off")
    packed("ACE-ALA-GLY-NME", None, tmp_path / "own", 3)
    frames = unpack(tmp_path / "own" / "ACE-ALA-GLY-NME" / "start-000.h5")
    frames.save(tmp_path / "own.h5")
    how = SMALL.model_copy(update={"begin_at": tmp_path / "first", "system": "ACE-ALA-GLY-NME", "epochs": 6})
    tuned = train_peptides(tmp_path / "own.h5", tmp_path / "tuned", how, "off")
    record = FitRecord.read(tmp_path / "tuned")
    assert record.begun_from is not None
    atoms, held = solvent_atoms(build("ACE-ALA-GLY-NME")), tuned.fit.errors.peptides[0]
    before = solvent_forces(first.fit.model, atoms, np.asarray(frames.positions, dtype=np.float64))
    untuned = np.sqrt(np.mean(remove_rigid(frames.forces - before, frames.positions) ** 2))
    assert held.rms["model"].value < 0.98 * untuned
    with pytest.raises(InputError, match="name its molecule with --system"):
        train_peptides(tmp_path / "own.h5", tmp_path / "x", SMALL, "off")
    with pytest.raises(InputError, match="of another molecule than ACE-ALA-NME"):
        train_peptides(tmp_path / "own.h5", tmp_path / "x", SMALL.model_copy(update={"system": "ACE-ALA-NME"}), "off")
    with pytest.raises(InputError, match="which say their names themselves"):
        train_peptides(data, tmp_path / "x", how, "off")
