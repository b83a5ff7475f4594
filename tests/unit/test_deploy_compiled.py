"""The compiled kernel: the energy of the torch network, and forces that are its exact gradient."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlsim.deploy.kernel import compiled, table
from mlsim.deploy.kernel import network_loops as kernel
from mlsim.errors import ArtifactError, InputError
from mlsim.models.contract import AbstractEnergyModel, create
from mlsim.models.contract import bind as bind_torch

TYPES = ["HC", "CT", "HC", "HC", "C", "O", "N", "H", "CX", "H1", "CT"]
SHAPES = {
    "default": {"features": 64, "blocks": 2},
    "ragged": {"features": 20, "blocks": 3, "activation": "silu", "radial": "bessel", "energy_scale": 2.5},
    "one block": {"features": 32, "blocks": 1},
}


def _model(config: dict[str, Any], seed: int = 1) -> AbstractEnergyModel:
    model = create("issnet", {"cutoff_nm": 0.6, "n_radial": 12, **config}, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at zero; make them count
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def _charges(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(5).normal(size=count) * 0.4


def _bound(model: AbstractEnergyModel, types: list[str], dtype: str, grid: int = 2048) -> compiled.CompiledEnergy:
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    filters = table.tabulate(model, grid)
    indices = model.type_indices(types).numpy()
    return compiled.bind(model.config.model_dump(), weights, filters, indices, _charges(len(types)), dtype)


def _positions(count: int, seed: int = 0, copies: int = 4) -> NDArray[np.float64]:
    """Atoms on a loose chain that straddles the cutoff."""
    generator = np.random.default_rng(seed)
    chain = np.cumsum(np.full((count, 3), 0.09), axis=0)
    return chain + generator.normal(size=(copies, count, 3)) * 0.04


def _eager(model: AbstractEnergyModel, types: list[str], x: NDArray[np.float64]) -> tuple[Any, Any]:
    positions = torch.tensor(x, requires_grad=True)
    energy = bind_torch(model, types, _charges(len(types)))(positions)
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    return energy.detach().numpy(), -gradient.numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-5), ("float64", 3e-6)])
def test_energy_and_forces_are_those_of_the_torch_network(shape: str, dtype: str, bound: float) -> None:
    model = _model(SHAPES[shape])
    x = _positions(len(TYPES))
    expected, gradient = _eager(model, TYPES, x)
    energy, forces = _bound(model, TYPES, dtype).evaluate(x)
    assert np.abs(energy - expected).max() < bound * np.abs(expected).max()
    assert np.abs(forces - gradient).max() < 10 * bound * np.sqrt(np.mean(gradient**2))


@pytest.mark.parametrize("shape", SHAPES)
def test_forces_are_the_gradient_of_the_tabulated_energy_even_on_a_coarse_grid(shape: str) -> None:
    kernel = _bound(_model(SHAPES[shape]), TYPES, "float64", grid=16)
    x = _positions(len(TYPES), copies=1)[0]
    _, forces = kernel.energy_forces(x)
    step = 1e-6
    scale = np.sqrt(np.mean(forces**2))
    for atom, axis in [(0, 0), (4, 1), (10, 2)]:
        shift = np.zeros_like(x)
        shift[atom, axis] = step
        slope = (kernel.energy_forces(x + shift)[0] - kernel.energy_forces(x - shift)[0]) / (2 * step)
        assert abs(slope + forces[atom, axis]) < 1e-6 * scale


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), far=st.floats(-1e3, 1e3))
def test_energy_is_invariant_under_rigid_motion_and_forces_turn_along(seed: int, far: float) -> None:
    kernel = _KERNEL
    generator = np.random.default_rng(seed)
    x = _positions(len(TYPES), seed, copies=1)[0]
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))  # rotations and reflections
    energy, forces = kernel.energy_forces(x)
    moved_energy, moved_forces = kernel.energy_forces(x @ turn + far)
    assert abs(moved_energy - energy) < 1e-6 * (1 + abs(energy))
    assert np.abs(moved_forces - forces @ turn).max() < 1e-6 * (1 + np.abs(forces).max())
    assert np.abs(forces.sum(0)).max() < 1e-9
    assert np.abs(np.cross(x, forces).sum(0)).max() < 1e-9


_KERNEL = _bound(_model({}), TYPES, "float64", grid=256)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_any_number_of_atoms_fits(count: int) -> None:
    model = _model({"features": 16})
    x = _positions(count)
    expected, gradient = _eager(model, TYPES[:count], x)
    energy, forces = _bound(model, TYPES[:count], "float64").evaluate(x)
    assert np.allclose(energy, expected, rtol=1e-5, atol=1e-8)
    assert np.allclose(forces, gradient, rtol=1e-4, atol=1e-6)


def test_atoms_beyond_the_cutoff_do_not_see_each_other() -> None:
    kernel = _bound(_model({}), TYPES, "float64")
    x = _positions(len(TYPES), copies=1)[0]
    apart = x + np.arange(len(TYPES))[:, None]
    assert np.abs(kernel.energy_forces(apart)[1]).max() == 0.0
    assert kernel.energy_forces(apart)[0] == kernel.energy_forces(2.0 * apart)[0]


def test_batch_threads_and_single_calls_give_the_same_bits() -> None:
    kernel = _bound(_model({}), TYPES, "float32")
    x = _positions(len(TYPES), copies=7)
    energy, forces = kernel.evaluate(x)
    for threads in (2, 3, 20):
        again = kernel.evaluate(x, threads=threads)
        assert (again[0] == energy).all()
        assert (again[1] == forces).all()
    for k in range(7):
        single = kernel.energy_forces(x[k])
        assert single[0] == energy[k]
        assert (single[1] == forces[k]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_no_number_makes_the_energy_nan(bad: float) -> None:
    x = _positions(len(TYPES), copies=3)
    x[1, 4, 2] = bad
    energy, forces = _bound(_model({}), TYPES, "float32").evaluate(x)
    assert np.isnan(energy[1])
    assert np.isnan(forces[1]).all()
    assert np.isfinite(energy[[0, 2]]).all()
    assert np.isfinite(forces[[0, 2]]).all()


def test_coinciding_atoms_give_finite_numbers() -> None:
    x = _positions(len(TYPES), copies=1)[0]
    x[3] = x[2]
    energy, forces = _bound(_model({}), TYPES, "float32").energy_forces(x)
    assert np.isfinite(energy)
    assert np.isfinite(forces).all()


@pytest.mark.parametrize("copied", [lambda k: pickle.loads(pickle.dumps(k)), copy.deepcopy])
def test_copies_compute_the_same(copied: Any) -> None:
    kernel = _bound(_model({}), TYPES, "float32")
    x = _positions(len(TYPES), copies=1)[0]
    kernel.energy_forces(x)
    again = copied(kernel)
    assert again.energy_forces(x)[0] == kernel.energy_forces(x)[0]


def test_kernel_is_built_without_a_place_for_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba.njit

    def nowhere_to_write(*arguments: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(*arguments, **options)

    monkeypatch.setattr(kernel.numba, "njit", nowhere_to_write)
    assert callable(kernel._entry())


def test_wrong_shapes_are_refused() -> None:
    kernel = _bound(_model({}), TYPES, "float32")
    with pytest.raises(InputError, match=r"expected shape \[11, 3\], got \[10, 3\]"):
        kernel.energy_forces(np.zeros((10, 3)))
    with pytest.raises(InputError, match=r"expected shape \[\*, 11, 3\]"):
        kernel.evaluate(np.zeros((11, 3)))


def test_weights_of_another_network_are_refused() -> None:
    model, other = _model({}), _model({"features": 32})
    weights = {name: value.numpy() for name, value in other.state_dict().items()}
    with pytest.raises(ArtifactError, match=r"weight 'embedding': expected shape \(34, 64\), got \(34, 32\)"):
        compiled.bind(
            model.config.model_dump(), weights, table.tabulate(model, 64), np.zeros(3, int), np.zeros(3), "float32"
        )
