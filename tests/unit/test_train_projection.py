"""Rigid-body projection of forces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.models.contract import create


def rigid_vectors(x):
    """The six translations and rotations of positions [N, 3], as columns [3N, 6]."""
    moves = [np.tile(np.eye(3)[k], (len(x), 1)) for k in range(3)]
    moves += [np.cross(np.eye(3)[k], x) for k in range(3)]
    return np.stack([m.ravel() for m in moves], axis=1)


@given(st.integers(0, 10**6), st.integers(3, 9))
@settings(max_examples=40, deadline=None)
def test_it_is_the_orthogonal_projection_off_translations_and_rotations(seed, n_atoms):
    rng = np.random.default_rng(seed)
    x, f = rng.normal(size=(2, n_atoms, 3)), rng.normal(size=(2, n_atoms, 3))
    projected = remove_rigid(f, x)
    for k in range(2):
        a = rigid_vectors(x[k])
        expected = f[k].ravel() - a @ np.linalg.lstsq(a, f[k].ravel(), rcond=None)[0]
        assert projected[k].ravel() == pytest.approx(expected, abs=1e-8)
    assert projected.sum(axis=1) == pytest.approx(0, abs=1e-10)
    assert np.cross(x, projected).sum(axis=1) == pytest.approx(0, abs=1e-8)
    assert remove_rigid(projected, x) == pytest.approx(projected, abs=1e-10)


def test_forces_of_an_invariant_model_are_left_as_they_are():
    model = create("issnet", {"features": 8}, seed=1).double()
    x = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.2
    _, forces = model.energy_and_forces(x, model.type_indices(["C", "O", "N", "H", "CT"]), torch.zeros(5).double())
    f = forces.detach().numpy()
    assert remove_rigid(f, x.numpy()) == pytest.approx(f, abs=1e-10)


def test_projecting_the_labels_lowers_the_loss_by_a_constant_and_leaves_its_gradient():
    model = create("issnet", {"features": 8, "energy_scale": 5.0}, seed=1).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64) * 0.2
    raw = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64) * 100
    projected = torch.from_numpy(remove_rigid(raw.numpy(), x.numpy()))
    args = (model.type_indices(["C", "O", "N", "H", "CT"]), torch.zeros(5).double())
    losses, gradients = [], []
    for labels in (raw, projected):
        model.zero_grad()
        loss = (model.energy_and_forces(x, *args)[1] - labels).square().sum()
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[0] - losses[1] == pytest.approx((raw - projected).square().sum().item(), rel=1e-10)
    assert losses[1] < losses[0]
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-9 * gradients[0].abs().max().item())


def test_a_linear_molecule_keeps_finite_forces_without_net_torque():
    x = np.array([[[0.0, 0, 0], [0.1, 0, 0], [0.3, 0, 0]]])
    f = np.random.default_rng(0).normal(size=(1, 3, 3))
    projected = remove_rigid(f, x)
    assert np.isfinite(projected).all()
    assert np.cross(x, projected).sum(axis=1) == pytest.approx(0, abs=1e-12)


def test_the_type_of_the_forces_is_kept():
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    assert remove_rigid(x, x).dtype == np.float32
