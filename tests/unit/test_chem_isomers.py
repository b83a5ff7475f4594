"""Isomers: known counts, chemistry by construction, MMFF surfaces; what a set of points is read as."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.isomers import enumeration, rdkit_parts
from benchmarks.isomers.enumeration import Surface, embed, enumerate_smiles
from benchmarks.isomers.perception import bond_length_w1, bond_lengths, bond_orders, judge, perceived_smiles, stability
from benchmarks.isomers.snapshots import log_density, snapshots
from mlsim.errors import DependencyError, InputError
from mlsim.units import kT

WATER = ("O", "H", "H")
WATER_POINTS = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


@pytest.fixture(scope="module")
def propanal() -> enumeration.Isomer:
    """CCC=O with its conformers."""
    found = embed("CCC=O", 6, 1)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("formula", "count"),
    [
        ({"C": 4, "H": 10}, 2),
        ({"C": 7, "H": 16}, 9),
        ({"C": 4, "H": 8}, 5),
        ({"C": 4, "H": 10, "O": 1}, 7),
        ({"C": 6, "H": 6}, 217),
        ({"C": 1, "H": 4}, 1),
        ({"O": 1, "H": 2}, 1),
        ({"C": 2, "H": 2}, 1),
    ],
)
def test_numbers_of_isomers_are_those_of_the_textbook(formula: dict[str, int], count: int) -> None:
    assert len(enumerate_smiles(formula)) == count


def test_isomers_of_propanal_are_the_nine_known() -> None:
    known = {"CCC=O", "CC(C)=O", "C=CCO", "CC=CO", "C=COC", "C=C(C)O", "OC1CC1", "CC1CO1", "C1COC1"}
    assert set(enumerate_smiles({"C": 3, "H": 6, "O": 1})) == known


@pytest.mark.parametrize("formula", [{"C": 2, "H": 5}, {"C": 1, "H": 6}, {"Si": 1, "H": 4}, {"H": 2}])
def test_formulas_without_a_molecule_are_refused(formula: dict[str, int]) -> None:
    with pytest.raises(InputError, match="isomers"):
        enumerate_smiles(formula)


def test_conformers_are_read_back_as_what_they_are(propanal: enumeration.Isomer) -> None:
    assert propanal.elements == ("C", "C", "C", "O", *("H",) * 6)
    assert len(propanal.conformers) >= 2
    assert stability(propanal.elements, propanal.conformers) == (1.0, 1.0)
    assert {perceived_smiles(propanal.elements, x) for x in propanal.conformers} == {"CCC=O"}


def test_gradient_of_the_surface_is_that_of_its_energy_and_vanishes_at_conformers(propanal: enumeration.Isomer) -> None:
    surface = Surface.of(propanal)
    x = propanal.conformers[0]
    energy, slope = surface.evaluate(x)
    assert energy == pytest.approx(propanal.energies[0], abs=1e-6)
    assert np.abs(slope).max() < 1.0
    y = x + 0.05 * np.random.default_rng(0).normal(size=x.shape)
    _, slope = surface.evaluate(y)
    step = np.zeros_like(y)
    step[2, 1] = 1e-5
    numeric = (surface.evaluate(y + step)[0] - surface.evaluate(y - step)[0]) / 2e-5
    assert slope[2, 1] == pytest.approx(numeric, rel=1e-5)


def test_snapshots_have_the_energy_of_their_temperature(propanal: enumeration.Isomer) -> None:
    """About kT/2 per internal degree of freedom above the minimum; molecules stay what they are."""
    x = snapshots(propanal, 8, torch.Generator().manual_seed(1), kept=8)
    assert x.shape == (64, 10, 3)
    assert np.abs(x.mean(1)).max() < 1e-9
    density = log_density(propanal, 300.0)
    energy = float(-density(torch.tensor(x.reshape(64, -1))).mean()) - propanal.energies.min() / kT(300.0)
    assert 9.0 < energy < 18.0
    assert all(perceived_smiles(propanal.elements, y) == "CCC=O" for y in x[::8])


def test_snapshots_want_positive_numbers(propanal: enumeration.Isomer) -> None:
    with pytest.raises(InputError, match="0 chains"):
        snapshots(propanal, 0, torch.Generator())


def test_bond_orders_of_water_and_of_carbon_pairs() -> None:
    assert bond_orders(WATER, WATER_POINTS[None])[0].tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    for distance, order in ((1.54, 1), (1.34, 2), (1.20, 3), (1.70, 0)):
        pair = np.array([[[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]])
        assert bond_orders(("C", "C"), pair)[0, 0, 1] == order


def test_a_torn_molecule_is_neither_stable_nor_valid() -> None:
    torn = WATER_POINTS.copy()
    torn[2] *= 4.0
    assert stability(WATER, torn[None]) == (1.0 / 3.0, 0.0)
    assert perceived_smiles(WATER, torn) is None
    assert perceived_smiles(WATER, WATER_POINTS) == "O"


def test_bond_length_distance_of_a_stretch_is_the_stretch() -> None:
    longer = WATER_POINTS * (1.0 + 0.05 / 0.96)
    assert list(bond_lengths(WATER, WATER_POINTS[None])["HO"]) == pytest.approx([0.96, 0.96], abs=1e-3)
    assert bond_length_w1(WATER, longer[None], WATER_POINTS[None]) == pytest.approx(0.05, abs=1e-3)
    assert bond_length_w1(WATER, 9.0 * WATER_POINTS[None], WATER_POINTS[None]) > 0.2


def test_verdict_counts_what_was_found(propanal: enumeration.Isomer) -> None:
    x = np.concatenate([propanal.conformers[:1], propanal.conformers[:1], 5.0 * propanal.conformers[:2]])
    verdict = judge(propanal.elements, x, propanal.conformers, ["CCC=O", "CC(C)=O"])
    assert verdict.validity == 0.5
    assert verdict.unique == 0.5
    assert verdict.recovered == 0.5
    assert verdict.novel == 0.0
    assert verdict.molecule_stability == 0.5


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"molecules, 3, 3"):
        bond_orders(WATER, WATER_POINTS)


def test_without_rdkit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(rdkit_parts.importlib, "import_module", missing)
    with pytest.raises(DependencyError, match=r"mlsim\[molecules\]"):
        rdkit_parts.rdkit_part("Chem")
