"""Population matching over many peptides: energies, the direction of learning, identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.population_matching import Ensemble, PopulationSettings
from mlsim.fitting.transferable.many_peptides import ManyPeptides
from mlsim.fitting.transferable.many_populations import ManyPopulations, PeptideEnsembles
from mlsim.fitting.transferable.peptide_arrays import PeptideFrames, shelve
from mlsim.fitting.transferable.peptide_fit import labelling
from mlsim.models.contract import create
from mlsim.models.transferable.atom_batch import PairList, batch_of
from mlsim.models.transferable.flat_forces import FlatForces
from mlsim.models.transferable.forms import OUTPUTS
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of
from mlsim.units import kT

SMALL = {"features": 8, "n_radial": 8, "cutoff_nm": 0.5}
COUNT = 400
LOG_2 = float(np.log(2.0))


def spread(molecule: Molecule, seed: int) -> np.ndarray:
    """Conformations about the built one [F, N, 3], nm."""
    noise = np.random.default_rng(seed).normal(0, 0.01, (COUNT, molecule.n_atoms, 3))
    return (molecule.positions + noise).astype(np.float32)


def stretch(positions: np.ndarray) -> np.ndarray:
    """Distance [F] (nm) of the first and the last heavy atom but hydrogens: what the ensembles will differ in."""
    return np.linalg.norm(positions[:, 4] - positions[:, 8], axis=1)


@pytest.fixture(scope="module")
def molecules(ala2: Molecule) -> list[Molecule]:
    return [ala2, build("ACE-GLY-NME")]


def model_of(molecules: list[Molecule], form: str = "screened+additive") -> TransferableISSNet:
    model = create("transferable", {**SMALL, "form": form, **domain_of([solvent_atoms(m) for m in molecules])}, 3)
    assert isinstance(model, TransferableISSNet)
    return model


def objective_of(
    model: TransferableISSNet, molecules: list[Molecule], directory: Path, pairs: int = 64
) -> ManyPopulations:
    """Forces zero; explicit water prefers a long distance by exp(x / s), the runs do not."""
    peptides, ensembles = [], []
    for number, molecule in enumerate(molecules):
        x, atoms = spread(molecule, number), solvent_atoms(molecule)
        frames = ForceFrames(
            x, np.zeros_like(x), molecule.atom_types, molecule.charges, molecule.elements, molecule.digest,
            (), np.zeros((COUNT, 0)), np.zeros(COUNT), np.zeros(COUNT, np.int64), np.arange(COUNT) * 1.0,
        )  # fmt: skip
        peptides.append(PeptideFrames(molecule.name, atoms, molecule.residue_names, frames))
        far = stretch(x)
        liked = Ensemble.create(x, np.exp((far - far.mean()) / far.std()))
        ensembles.append(PeptideEnsembles(molecule.name, atoms, (liked, liked), (Ensemble.create(x),) * 2))
    arrays = shelve(peptides, directory, 0.25, 2.0, 0.0, 1, labelling(model))
    settings = PopulationSettings(weight=1.0, pairs=pairs)
    return ManyPopulations(model, ManyPeptides(model, arrays), ensembles, 300.0, settings, seed=1)


@pytest.mark.parametrize("form", list(OUTPUTS))
def test_quick_energies_are_those_of_the_model_with_their_gradients(molecules: list[Molecule], form: str) -> None:
    model = model_of(molecules, form).double()
    torch.nn.init.normal_(model.head_out.weight, 0.0, 0.5, generator=torch.Generator().manual_seed(1))
    atoms = [solvent_atoms(m) for m in molecules]
    batch = batch_of(
        [np.asarray(m.positions) for m in molecules],
        [model.kind_indices(a, "peptide") for a in atoms],
        [torch.tensor(a.parameters) for a in atoms],
        PairList(),
    )
    found = {}
    for name, function in (("quick", FlatForces(model).energies), ("model", model.batch_energies)):
        model.zero_grad()
        energies = function(batch)
        (energies * torch.tensor([1.0, -0.3])).sum().backward()
        found[name] = energies.detach(), model.head_in.weight.grad.clone()
    assert torch.allclose(found["quick"][0], found["model"][0], rtol=1e-6, atol=1e-4)
    assert torch.allclose(found["quick"][1], found["model"][1], rtol=1e-4, atol=1e-4)


def test_untouched_weights_have_a_pair_loss_of_log_2(molecules: list[Molecule], tmp_path: Path) -> None:
    assert objective_of(model_of(molecules), molecules, tmp_path).pair_losses() == pytest.approx([LOG_2] * 2, abs=1e-7)


def test_learning_moves_every_peptide_towards_its_explicit_ensemble(molecules: list[Molecule], tmp_path: Path) -> None:
    model = model_of(molecules, "additive")
    objective = objective_of(model, molecules, tmp_path)
    objective.forces.loss = lambda index: torch.zeros(())  # type: ignore[method-assign]
    steps = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(80):
        steps.zero_grad()
        objective.loss(np.array([step])).backward()
        steps.step()
    assert (objective.pair_losses() < LOG_2 - 0.05).all()
    engine = FlatForces(model)
    for number, molecule in enumerate(molecules):  # the log ratio of densities is that of the weights drawn with
        x, atoms = spread(molecule, number), solvent_atoms(molecule)
        kinds, parameters = model.kind_indices(atoms, molecule.name), torch.tensor(atoms.parameters).float()
        before = FlatForces(model_of(molecules, "additive"))
        batch = batch_of(list(x), [kinds] * COUNT, [parameters] * COUNT, PairList())
        with torch.no_grad():
            change = (engine.energies(batch) - before.energies(batch)).numpy()
        assert np.corrcoef(-change / kT(300.0), stretch(x))[0, 1] > 0.5


def test_every_fact_that_decides_the_result_is_in_the_identity(molecules: list[Molecule], tmp_path: Path) -> None:
    settings = TrainSettings()
    model = model_of(molecules)
    first = objective_of(model, molecules, tmp_path).identity(settings)
    assert objective_of(model, molecules, tmp_path).identity(settings) == first
    assert objective_of(model, molecules, tmp_path, pairs=32).identity(settings) != first
    with torch.no_grad():
        model.head_out.weight.add_(0.1)
    assert objective_of(model, molecules, tmp_path).identity(settings) != first


def test_fewer_pairs_than_peptides_are_refused(molecules: list[Molecule], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one pair for each"):
        objective_of(model_of(molecules), molecules, tmp_path, pairs=1)
