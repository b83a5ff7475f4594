"""The static program: the kernel's numbers, from operations that a graph can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from mlsim.deploy.kernel import compiled, table
from mlsim.deploy.kernel.cuda_graph import GraphedEnergy, require_cuda
from mlsim.deploy.kernel.static import StaticProgram
from mlsim.errors import DependencyError
from tests.toy_artifact import toy_model

TYPES = ["HC", "CT", "HC", "HC", "C", "O", "N", "H", "CX", "H1", "CT"]
SHAPES = [
    {},
    {"features": 40, "blocks": 3, "activation": "silu", "radial": "bessel", "energy_scale": 2.5},
    {"features": 64, "blocks": 1},
]


def network(config: dict[str, Any], dtype: str) -> compiled.CompiledEnergy:
    model = toy_model(config=config)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    charges = np.random.default_rng(5).normal(size=len(TYPES)) * 0.4
    indices = model.type_indices(TYPES).numpy()
    return compiled.bind(model.config.model_dump(), weights, table.tabulate(model, 256), indices, charges, dtype)


def conformations(copies: int, seed: int = 0) -> np.ndarray:
    """A loose chain that straddles the cutoff, far from the origin."""
    chain = np.cumsum(np.full((len(TYPES), 3), 0.09), axis=0) + 50.0
    return chain + np.random.default_rng(seed).normal(size=(copies, len(TYPES), 3)) * 0.04


@pytest.mark.parametrize("config", SHAPES, ids=["toy", "ragged", "one block"])
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 2e-5)])
def test_energies_and_forces_are_those_of_the_kernel(config: dict[str, Any], dtype: str, bound: float) -> None:
    kernel, x = network(config, dtype), conformations(4)
    energies, forces = kernel.evaluate(x)
    found = GraphedEnergy(StaticProgram(kernel.network), "cpu").evaluate(x)
    assert found[0] == pytest.approx(energies, rel=bound, abs=bound)
    assert np.abs(found[1] - forces).max() < bound * np.sqrt(np.mean(forces**2))


def test_operations_recorded_at_one_conformation_are_right_at_every_other() -> None:
    """What a CUDA graph needs: no shape and no branch depends on the positions."""
    program = StaticProgram(network({}, "float64").network)
    recorded = make_fx(program)(torch.from_numpy(conformations(3)))
    for scale in (0.7, 1.0, 30.0):  # from crowded to every pair beyond the cutoff
        x = torch.from_numpy(conformations(3, seed=2) * scale)
        for found, expected in zip(recorded(x), program(x), strict=True):
            assert torch.equal(found, expected)


def test_a_position_that_is_no_number_spoils_its_own_copy_only() -> None:
    x = conformations(3)
    x[1, 4, 2] = np.inf
    energies, forces = GraphedEnergy(StaticProgram(network({}, "float32").network), "cpu").evaluate(x)
    assert np.isnan(energies[1])
    assert np.isnan(forces[1]).all()
    assert np.isfinite(energies[[0, 2]]).all()
    assert np.isfinite(forces[[0, 2]]).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_without_cuda_one_line_says_what_to_do() -> None:
    with pytest.raises(DependencyError, match=r"bridge 'cuda': torch .* finds no CUDA device here; use"):
        require_cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("copies", [1, 7])
def test_a_replayed_graph_computes_what_the_kernel_computes(copies: int) -> None:
    kernel = network({}, "float64")
    graphed = GraphedEnergy(StaticProgram(kernel.network, "cuda"), "cuda")
    for seed in range(3):  # one recording, three conformations
        x = conformations(copies, seed)
        energies, forces = kernel.evaluate(x)
        found = graphed.evaluate(x)
        assert found[0] == pytest.approx(energies, rel=1e-10)
        assert np.abs(found[1] - forces).max() < 1e-10 * np.abs(forces).max()


@pytest.mark.gpu
def test_every_thread_records_its_own_graph() -> None:
    from concurrent.futures import ThreadPoolExecutor

    graphed, x = GraphedEnergy(StaticProgram(network({}, "float64").network, "cuda"), "cuda"), conformations(2)
    expected = graphed.evaluate(x)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(graphed.evaluate, x).result()
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()
