"""Pairs, radial functions and the registry of models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlsim.errors import MlsimError, SettingsError
from mlsim.models import contract
from mlsim.models.atom_pairs import half_pairs, pair_distances, pair_vectors, sum_over_neighbours
from mlsim.models.radial import radial_basis, smooth_envelope
from mlsim.models.schnet import activation
from mlsim.workflow.training.baseline import born_forces


@given(st.integers(1, 12))
def test_half_pairs_hold_every_unordered_pair_once(n_atoms):
    first, second = half_pairs(n_atoms, torch.device("cpu"))
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert pairs == {(i, j) for i in range(n_atoms) for j in range(i + 1, n_atoms)}
    assert len(first) == len(pairs)


def test_distances_are_exact_and_have_a_finite_gradient_for_coinciding_atoms():
    x = torch.tensor([[[0.0, 0, 0], [0.3, 0.4, 0], [0, 0, 0]]], dtype=torch.float64, requires_grad=True)
    first, second = half_pairs(3, x.device)
    d = pair_distances(pair_vectors(x, first, second))
    assert d[0].tolist() == pytest.approx([0.5, 0.0, 0.5], abs=2e-6)
    d.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_neighbour_sums_equal_the_dense_sum():
    generator = torch.Generator().manual_seed(0)
    n, width = 5, 3
    first, second = half_pairs(n, torch.device("cpu"))
    weights = torch.randn(2, len(first), width, generator=generator)
    values = torch.randn(2, n, width, generator=generator)
    dense = torch.zeros(2, n, n, width)
    dense[:, first, second] = weights
    dense[:, second, first] = weights
    expected = torch.einsum("bijf,bjf->bif", dense, values)
    assert torch.allclose(sum_over_neighbours(values, weights, first, second), expected, atol=1e-6)
    shared = sum_over_neighbours(values[:1], weights, first, second)
    assert torch.allclose(shared, torch.einsum("bijf,jf->bif", dense, values[0]), atol=1e-6)


def test_the_envelope_is_one_at_zero_and_vanishes_with_two_derivatives_at_the_cutoff():
    d = torch.tensor([0.0, 0.5, 0.8, 2.0], dtype=torch.float64, requires_grad=True)
    f = smooth_envelope(d, 0.8)
    (df,) = torch.autograd.grad(f.sum(), d, create_graph=True)
    (ddf,) = torch.autograd.grad(df.sum(), d)
    assert f[[0, 2, 3]].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-15)
    assert df[[0, 2, 3]].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-13)
    assert ddf[[0, 2, 3]].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert 0 < f[1] < 1


@pytest.mark.parametrize("name", ["gaussian", "bessel"])
def test_radial_functions_are_smooth_of_order_one_and_never_denormal(name):
    basis = radial_basis(name, 32, 1.2)
    d = torch.linspace(0.08, 1.2, 400)
    values = basis(d)
    assert values.shape == (400, 32)
    assert values.abs().max() < 8.0
    assert values.abs().max(dim=0).values.min() > 0.05
    if name == "gaussian":
        assert values.abs().min() > torch.finfo(torch.float32).tiny


def test_unknown_names_are_refused():
    with pytest.raises(SettingsError, match="gaussian"):
        radial_basis("fourier", 4, 1.0)
    with pytest.raises(SettingsError, match="tanh"):
        activation("ssp")
    with pytest.raises(SettingsError, match=r"known: .*issnet"):
        contract.create("isnet", {})


def test_a_misspelt_setting_is_refused_with_a_suggestion():
    with pytest.raises(SettingsError, match="did you mean 'features'"):
        contract.create("issnet", {"feature": 3})


@pytest.mark.parametrize("config", [{"features": 0}, {"cutoff_nm": -1.0}, {"radial": "x"}, {"baseline": ""}])
def test_settings_out_of_range_are_refused(config):
    with pytest.raises(SettingsError):
        contract.create("issnet", config)


def test_a_model_from_outside_can_be_registered_but_not_replace_another(monkeypatch):
    monkeypatch.setattr(contract.MODELS, "_own", dict(contract.MODELS._own))
    contract.register("mine", "mlsim.models.issnet.solvation:ISSNet")
    assert "mine" in contract.kinds()
    assert contract.create("mine", {"features": 4}).config.features == 4
    with pytest.raises(SettingsError, match="taken"):
        contract.register("issnet", "elsewhere:Model")


def test_another_seed_gives_other_weights():
    one, two = (contract.create("issnet", {"features": 4}, seed).state_dict() for seed in (1, 2))
    assert not torch.equal(one["embedding"], two["embedding"])


@pytest.mark.parametrize(("name", "words"), [("gbn3", "did you mean 'gbn2?'"), ("tip3p", "gbn2"), ("vacuum", "gbn2")])
def test_a_baseline_that_is_no_solvent_with_a_formula_is_refused(name, words, ala2):
    with pytest.raises(MlsimError, match=words):
        born_forces(name, ala2, ala2.positions[None])
