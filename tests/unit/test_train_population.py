"""Population matching: the pair loss, its weights, and that it finds a known ratio of densities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent import population_matching
from mlsim.fitting.solvent.force_matching import Baseline, ForceMatching
from mlsim.fitting.solvent.population_matching import (
    Ensemble,
    Ensembles,
    FirstStage,
    PopulationMatching,
    PopulationSettings,
)
from mlsim.models.issnet.solvation import ISSNet, ISSNetSettings
from mlsim.units import kT

TYPES = ("C", "O", "N", "H")
CHARGES = np.array([0.3, -0.4, -0.2, 0.3])
TEMPERATURE = 300.0


def network(seed: int = 3, baseline: str = "none") -> ISSNet:
    size = {"features": 16, "blocks": 1, "n_radial": 12, "cutoff_nm": 0.8, "energy_scale": 4.0}
    return ISSNet(ISSNetSettings.parse(size | {"baseline": baseline}, "test"), seed).double()


def conformations(count: int, seed: int) -> np.ndarray:
    """A chain of four atoms with a free end: distances between 0.1 and 0.5 nm."""
    generator = np.random.default_rng(seed)
    x = np.zeros((count, 4, 3))
    x[:, 1, 0] = 0.15
    x[:, 2] = [0.15, 0.15, 0.0]
    direction = generator.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    x[:, 3] = x[:, 2] + direction * generator.uniform(0.12, 0.35, size=(count, 1))
    return x


def frames_of(model: ISSNet, positions: np.ndarray) -> ForceFrames:
    """Labels that the model fulfils exactly, so that the forces alone ask for no change."""
    types = model.type_indices(TYPES)
    _, forces = model.energy_and_forces(torch.tensor(positions), types, torch.tensor(CHARGES))
    count = len(positions)
    return ForceFrames(
        positions=positions,
        forces=forces.detach().numpy(),
        cvs=np.zeros((count, 2)),
        cv_names=("phi", "psi"),
        bias=np.zeros(count),
        run=np.zeros(count, dtype=int),
        time_ps=np.arange(count, dtype=float),
        atom_types=TYPES,
        charges=CHARGES,
        elements=("C", "O", "N", "H"),
        molecule_digest="0" * 16,
        provenance={},
    )


def energies(model: ISSNet, positions: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(positions), model.type_indices(TYPES), torch.tensor(CHARGES)).numpy()


def true_change(positions: np.ndarray) -> np.ndarray:
    """The correction to be found, kJ/mol: the free end prefers one distance to the second atom."""
    d = np.linalg.norm(positions[:, 3] - positions[:, 1], axis=1)
    return 6.0 * np.cos(15.0 * d)


def objective(model: ISSNet, explicit: Ensemble, generated: Ensemble, weight: float = 1.0) -> PopulationMatching:
    frames = frames_of(model, conformations(64, 9))
    forces = ForceMatching(model, frames, frames, TrainSettings(engine="exact"), None)
    settings = PopulationSettings(weight=weight, pairs=64)
    return PopulationMatching(model, forces, (explicit, explicit), (generated, generated), TEMPERATURE, settings, 1)


def test_the_pair_loss_starts_at_log_2_whatever_the_ensembles() -> None:
    model = network()
    start = objective(model, Ensemble.create(conformations(50, 1)), Ensemble.create(conformations(70, 2)))
    assert start.pair_loss() == pytest.approx(np.log(2.0), abs=1e-12)


def test_a_constant_shift_of_the_energy_changes_nothing() -> None:
    model = network()
    shifted = objective(model, Ensemble.create(conformations(50, 1)), Ensemble.create(conformations(70, 2)))
    with torch.no_grad():
        before = shifted.pair_loss()
        for side in (*shifted._train, *shifted._valid):
            side._before = side._before + 17.0
    assert shifted.pair_loss() == pytest.approx(before, abs=1e-12)


def test_frames_are_drawn_in_proportion_to_their_weights() -> None:
    ensemble = Ensemble.create(np.zeros((3, 4, 3)), np.array([1.0, 0.0, 3.0]))
    drawn = np.bincount(ensemble.draw(40_000, np.random.default_rng(0)), minlength=3) / 40_000
    np.testing.assert_allclose(drawn, [0.25, 0.0, 0.75], atol=0.01)


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [0.0, 0.0], [1.0]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights"):
        Ensemble.create(np.zeros((2, 4, 3)), np.array(weights))


def test_a_known_ratio_of_densities_is_found(tmp_path: Path) -> None:
    generated = conformations(6000, 1)
    weights = np.exp(-true_change(generated) / kT(TEMPERATURE))
    chosen = np.random.default_rng(5).choice(len(generated), 6000, p=weights / weights.sum())
    model = network()
    frames = frames_of(model, conformations(1280, 7))
    before = energies(model, conformations(500, 11))
    settings = TrainSettings(
        epochs=10, batch_size=16, learning_rate=5e-3, engine="exact", seed=1, block_ps=20.0, patience=10
    )
    torch.manual_seed(0)
    result, pair_loss = population_matching.fit(
        model,
        FirstStage(frames, frames),
        Ensembles(
            (Ensemble.create(generated[chosen][:5000]), Ensemble.create(generated[chosen][5000:])),
            (Ensemble.create(generated[:5000]), Ensemble.create(generated[5000:])),
            TEMPERATURE,
        ),
        settings,
        PopulationSettings(weight=100.0, pairs=64),
        tmp_path / "fit",
        "off",
    )
    assert pair_loss < np.log(2.0) - 0.05
    probe = conformations(500, 11)
    found = energies(result.model, probe) - before
    truth = true_change(probe)
    found, truth = found - found.mean(), truth - truth.mean()
    assert np.corrcoef(found, truth)[0, 1] > 0.95
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.35 * truth.std()


def test_the_same_fit_twice_gives_the_same_bits(tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        model = network()
        frames = frames_of(model, conformations(64, 7))
        side = (Ensemble.create(conformations(100, 1)), Ensemble.create(conformations(100, 2)))
        other = (Ensemble.create(conformations(100, 3)), Ensemble.create(conformations(100, 4)))
        settings = TrainSettings(epochs=2, batch_size=16, engine="exact", block_ps=20.0)
        result, _ = population_matching.fit(
            model,
            FirstStage(frames, frames),
            Ensembles(side, other, TEMPERATURE),
            settings,
            PopulationSettings(),
            tmp_path / name,
            "off",
        )
        weights.append(result.model.embedding.detach().numpy().copy())
    np.testing.assert_array_equal(weights[0], weights[1])


def test_a_baseline_is_taken_off_the_labels_and_nothing_else_changes(tmp_path: Path) -> None:
    born = np.random.default_rng(8).normal(scale=50.0, size=(64, 4, 3))
    sides = [(Ensemble.create(conformations(100, k)), Ensemble.create(conformations(100, k + 1))) for k in (1, 3)]
    settings, weights = TrainSettings(epochs=2, batch_size=16, engine="exact", block_ps=20.0), []
    for name, under in (("none", None), ("obc2", Baseline("obc2", born, born))):
        model = network(baseline=name)
        frames = frames_of(model, conformations(64, 7))
        if under is not None:
            frames = replace(frames, forces=frames.forces + born)
        first, rest = FirstStage(frames, frames), (Ensembles(*sides, TEMPERATURE), settings, PopulationSettings())
        if under is not None:
            with pytest.raises(InputError, match="baseline: the model is set up for 'obc2', the forces given are of"):
                population_matching.fit(model, first, *rest, tmp_path / "refused", "off")
        result, _ = population_matching.fit(model, replace(first, baseline=under), *rest, tmp_path / name, "off")
        weights.append(result.model.embedding.detach().numpy().copy())
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-9)
