"""Quick training forces equal the exact ones, with their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlsim.models.contract import create
from mlsim.models.issnet.solvation import ISSNet
from mlsim.models.issnet.tabulated import TabulatedForces

TYPES = ("HC", "CT", "HC", "HC", "C", "O", "N", "H")
CHARGES = torch.tensor([0.11, -0.37, 0.11, 0.11, 0.6, -0.57, -0.42, 0.43])


def positions(batch, dtype, seed=0, spread=0.22):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * spread
    return torch.tensor(grid + rng.uniform(-0.06, 0.06, size=(batch, 8, 3)), dtype=dtype)


def both(config, dtype, threads=1, spread=0.22):
    """Energy, forces and the parameters' gradient of a force loss, from the quick and the exact route."""
    model = create("issnet", {"features": 16, "energy_scale": 10.0, **config}, seed=2).to(dtype)
    assert isinstance(model, ISSNet)
    types = model.type_indices(TYPES)
    x = positions(6, dtype, spread=spread)
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    before = torch.get_num_threads()
    results = []
    try:
        torch.set_num_threads(threads)
        quick = TabulatedForces(model, types, CHARGES)
        for engine in (quick, lambda y: model.energy_and_forces(y, types, CHARGES.to(dtype))):
            model.zero_grad()
            energy, forces = engine(x)
            (forces - target).square().mean().backward()
            gradient = torch.cat(
                [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()]
            )
            results.append((energy.detach(), forces.detach(), gradient))
    finally:
        torch.set_num_threads(before)
    return results


def close(one, two, tolerance):
    assert one.shape == two.shape
    assert one.dtype == two.dtype
    return (one - two).norm() <= tolerance * two.norm()


@pytest.mark.parametrize(
    "config",
    [
        {"blocks": 2, "cutoff_nm": 1.2},
        {"blocks": 1, "cutoff_nm": 0.5},
        {"blocks": 3, "cutoff_nm": 0.9, "radial": "bessel", "activation": "silu", "n_radial": 12},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energy_forces_and_gradients_agree_with_the_exact_route(config, dtype):
    quick, exact = both(config, dtype)
    for one, two in zip(quick, exact, strict=True):
        assert close(one, two, 5e-5)


def test_pairs_beyond_the_cutoff_do_nothing():
    quick, exact = both({"cutoff_nm": 0.3}, torch.float64, spread=0.5)
    assert exact[1].abs().max() == 0.0
    assert quick[1].abs().max() == 0.0
    assert close(quick[0], exact[0], 1e-12)


def test_the_result_does_not_depend_on_the_number_of_threads():
    one, _ = both({"blocks": 2}, torch.float64, threads=1)
    three, _ = both({"blocks": 2}, torch.float64, threads=3)
    for a, b in zip(one, three, strict=True):
        assert close(a, b, 1e-12)


def test_the_result_is_the_same_bit_for_bit_when_repeated():
    one, two = both({"blocks": 2}, torch.float32)[0], both({"blocks": 2}, torch.float32)[0]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_more_radial_functions_do_not_lose_precision():
    quick, exact = both({"n_radial": 96, "cutoff_nm": 1.2}, torch.float64)
    assert close(quick[1], exact[1], 5e-5)
