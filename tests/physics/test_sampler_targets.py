"""Targets: symmetry, virial, minima, exact draws; references; the whole road on DW-4."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlsim.errors import InputError, MissingError
from mlsim.samplers.algorithm import evaluate
from mlsim.samplers.sampler_catalog import SamplerSettings, stein_kernel
from mlsim.samplers.targets import Target, by_name, lennard_jones, load, names, trial
from mlsim.samplers.targets.clusters import DW4_MINIMA, LJ13_GROUND, long_edges, pair_distances
from mlsim.samplers.targets.scores import (
    descend,
    geometric_w2,
    nearest_minimum,
    quench,
    total_variation,
    wasserstein_2,
)
from mlsim.samplers.targets.stored_reference import Reference, available


def stream(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", names())
def test_targets_are_invariant_under_their_symmetry(name: str) -> None:
    target = by_name(name)
    x = target.start(6, stream(), torch.float64)
    g = target.symmetry.draw(stream(1), torch.float64)
    torch.testing.assert_close(target.log_density(target.symmetry.act(g, x)), target.log_density(x))


@pytest.mark.parametrize("name", [name for name in names() if not by_name(name).has_energy])
def test_exact_draws_obey_the_stein_identity(name: str) -> None:
    """E[s . x] = -d for the density the draws come from."""
    target = by_name(name)
    x = target.draw(40000, stream())
    _, score = evaluate(target.log_density, x)
    values = (score * x).sum(1)
    stderr = float(values.std()) / np.sqrt(len(values))
    assert abs(float(values.mean()) + target.dimension) < 4.0 * stderr


def test_a_third_of_the_circles_lies_inside() -> None:
    radius = by_name("circles").draw(20000, stream()).norm(dim=1)
    assert float((radius < 6.0).double().mean()) == pytest.approx(1.0 / 3.0, abs=0.01)


@pytest.mark.parametrize("name", ["dw4", "lj13", "lj55"])
def test_references_obey_the_virial_theorem(name: str) -> None:
    """<(x - c) . grad E> = (n - 1) s on the stored configurations, with the energy of the package."""
    target, reference = by_name(name), load(name)
    x = torch.as_tensor(reference.positions)
    value, score = evaluate(target.log_density, x)
    virial = -(score * target.symmetry.project(x)).sum(1)
    stderr = float(virial.std()) / np.sqrt(len(virial))
    assert abs(float(virial.mean()) - target.symmetry.freedom) < 4.0 * stderr
    spread = 4.0 * float(value.std()) / np.sqrt(len(value))
    assert abs(-float(value.mean()) - reference.record["energy"]["mean"]) < spread


def test_reference_of_dw4_has_the_known_moments() -> None:
    """Against an independent Monte-Carlo code: <E> = -22.541, sd 1.904, P(4 long edges) = 0.518 +- 0.0024."""
    record = load("dw4").record
    assert record["energy"]["mean"] == pytest.approx(-22.542, abs=0.02)
    assert record["energy"]["sd"] == pytest.approx(1.90, abs=0.02)
    assert record["long_edges"][4]["mean"] == pytest.approx(0.518, abs=0.006)


def test_reference_of_lj13_has_the_known_energy() -> None:
    assert load("lj13").record["energy"]["mean"] == pytest.approx(-43.0, abs=0.15)


def test_dw4_has_its_five_minima_and_no_other() -> None:
    target = by_name("dw4")
    start = torch.cat([load("dw4").draw(60, stream()), target.start(30, stream(1), torch.float64)])
    minima, energies = quench(target.log_density, start)
    which = nearest_minimum(energies, tuple(energy for energy, _ in DW4_MINIMA))
    assert (which >= 0).all()
    assert {int(index) for index in which} >= {0, 1, 2}
    for index, count in zip(which.tolist(), long_edges(minima).tolist(), strict=True):
        assert count == DW4_MINIMA[index][1]


def test_batched_descent_reaches_the_minima_that_quenching_reaches() -> None:
    target = by_name("dw4")
    start = load("dw4").draw(40, stream(3))
    _, wanted = quench(target.log_density, start)
    known = tuple(energy for energy, _ in DW4_MINIMA)
    settled, energies = descend(target.log_density, start)
    torch.testing.assert_close(-target.log_density(settled), energies)
    found = nearest_minimum(energies, known)
    assert (found >= 0).all()
    # Two descents from one point may end in different basins; few do.
    assert float((found == nearest_minimum(wanted, known)).double().mean()) > 0.8


def test_rare_dw4_minima_are_minima() -> None:
    target = by_name("dw4")
    x = torch.as_tensor(load("dw4").positions)
    for energy, count in DW4_MINIMA[3:]:
        start = x[long_edges(x) == count][:20]
        _, energies = quench(target.log_density, start)
        assert float((energies - energy).abs().min()) < 0.01


def test_icosahedron_is_the_ground_state_of_lj13() -> None:
    golden = (1.0 + 5.0**0.5) / 2.0
    corners = [[0.0, 0.0, 0.0]]
    for a in (-1.0, 1.0):
        for b in (-golden, golden):
            corners += [[0.0, a, b], [a, b, 0.0], [b, 0.0, a]]
    start = 0.5 * torch.tensor(corners, dtype=torch.float64).reshape(1, -1)
    _, energies = quench(by_name("lj13").log_density, start)
    assert float(energies[0]) == pytest.approx(LJ13_GROUND, abs=1e-3)


def test_two_lennard_jones_points_have_the_energy_on_paper() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(lennard_jones(2).log_density(x)) == pytest.approx(2.0 - 0.25)
    assert float(pair_distances(x, 2)) == 1.0


def test_wasserstein_of_a_shift_is_the_shift() -> None:
    x = np.random.default_rng(0).normal(size=500)
    assert wasserstein_2(x, x + 0.7) == pytest.approx(0.7)
    assert wasserstein_2(np.repeat(x, 3), x) == pytest.approx(0.0, abs=0.02)


def test_total_variation_counts_what_lies_outside() -> None:
    x = np.linspace(0.0, 1.0, 1000)
    assert total_variation(x, x) == 0.0
    assert total_variation(x, np.concatenate([x, np.full(1000, 9.0)])) == pytest.approx(0.5)
    assert total_variation(x, np.full(10, 9.0)) == pytest.approx(1.0)


def test_geometric_distance_ignores_the_orbit() -> None:
    target = by_name("dw4")
    kernel = stein_kernel(target.symmetry, SamplerSettings(method="esvgd"))
    x = load("dw4").draw(12, stream())
    turned = torch.stack(
        [target.symmetry.act(target.symmetry.draw(stream(k), torch.float64), r) for k, r in enumerate(x)]
    )
    assert geometric_w2(kernel, x, turned) < 1e-6
    assert geometric_w2(kernel, x, load("dw4").draw(12, stream(5))) > 0.3


def test_stein_operator_has_mean_zero_on_the_reference() -> None:
    """phi ~ N^-1/2 on reference draws, and KSD with it."""
    target = by_name("dw4")
    kernel = stein_kernel(target.symmetry, SamplerSettings(method="esvgd"))
    sizes = []
    for count in (40, 640):
        x = load("dw4").draw(count, stream(3))
        _, score = evaluate(target.log_density, x)
        sizes.append(float(kernel.stein(x, score, 0.8).mean().sqrt()))
    assert sizes[1] < 0.4 * sizes[0]


def test_esvgd_beats_svgd_on_dw4_by_the_discrepancy_and_the_energies() -> None:
    target = by_name("dw4")

    def energy_w2(method: str) -> float:
        settings = SamplerSettings.parse({"method": method, "gradients": 150})
        return trial.run(target, settings, 30, 11).metrics["energy_w2"]

    assert energy_w2("esvgd") < 0.6 * energy_w2("svgd")


def test_metropolis_reaches_the_floor_on_dw4() -> None:
    target = by_name("dw4")
    found = trial.run(target, SamplerSettings(method="mala", gradients=400), 100, 12).metrics
    floor = trial.floor(target, 100)
    assert found["energy_w2"] < 2.0 * floor["energy_w2"]
    assert found["tv50"] < 1.6 * floor["tv50"]


def test_doors_of_targets() -> None:
    with pytest.raises(InputError, match="expected one of"):
        by_name("dw5")
    with pytest.raises(InputError, match="at least 2 points"):
        lennard_jones(1)
    with pytest.raises(InputError, match="no exact sampler"):
        by_name("dw4").draw(3, stream())
    with pytest.raises(MissingError, match="no stored reference"):
        load("c4")
    with pytest.raises(InputError, match="stored"):
        load("lj55").draw(10**6, stream())
    with pytest.raises(InputError, match="at least 1"):
        trial.start(by_name("dw4"), 0, 1)
    with pytest.raises(InputError, match="equal shapes"):
        geometric_w2(
            stein_kernel(by_name("c4").symmetry, SamplerSettings(method="esvgd")), torch.ones(2, 2), torch.ones(3, 2)
        )
    with pytest.raises(InputError, match="at least one number"):
        wasserstein_2(np.array([]), np.ones(2))
    assert isinstance(load("dw4"), Reference)
    assert isinstance(by_name("c4"), Target)
    assert set(available()) >= {"dw4", "lj13", "lj55"}
