"""Contrastive training: exact losses, what it learns where the answer is known, exact resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlsim.errors import InputError, OccupiedError, SettingsError
from mlsim.fitting.density import denoising
from mlsim.fitting.density.augmented import AugmentedKernel
from mlsim.fitting.density.contrastive_fit import carry_out
from mlsim.fitting.density.divergence import ContrastiveDivergence
from mlsim.fitting.density.joint_objective import JointDivergence
from mlsim.fitting.density.negatives import Negatives
from mlsim.fitting.density.problem import Problem, around
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.fitting.settings import TrainSettings
from mlsim.models.ebm.joint_outputs import class_energy, class_loss, regression_energy, regression_loss
from mlsim.samplers import cyclic, esvgd, kernel_for, trivial
from mlsim.samplers.targets import by_name
from mlsim.seeds import torch_stream


class Quadratic(nn.Module):
    """u = exp(k) |x|^2 / 2: the variance of exp(-u) is exp(-k)."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.k.exp() * x.square().sum(-1)


def gaussian_problem(k: float, variance: float, dimension: int = 2, count: int = 2000) -> Problem:
    data = variance**0.5 * torch.randn(count, dimension, generator=torch_stream(1, "data"), dtype=torch.float64)
    symmetry = cyclic(4) if dimension == 2 else trivial(dimension)
    model = Quadratic(k)
    return Problem(model, model, symmetry, data, data[:200], around(data, 0.1, symmetry), 1.0)


def training(epochs: int, **changes: float) -> TrainSettings:
    return TrainSettings.parse(
        {"epochs": epochs, "batch_size": 100, "learning_rate": 0.05, "patience": 1000, "warmup_steps": 0, **changes}
    )


def test_denoising_loss_of_the_exact_score_of_noisy_data_is_its_closed_form() -> None:
    sigma = 0.5
    problem = gaussian_problem(float(-np.log(1.0 + sigma**2)), 1.0, dimension=3, count=40000)
    found = denoising.loss(problem, problem.train, sigma, torch_stream(1, "noise"))
    assert found.item() == pytest.approx(1.0 / (1.0 + sigma**2), abs=0.01)
    flat = gaussian_problem(-30.0, 1.0, dimension=3, count=40000)
    assert denoising.loss(flat, flat.train, sigma, torch_stream(1, "noise")).item() == pytest.approx(1.0, abs=0.02)


def test_noises_of_all_sizes_ask_for_one_parabola_about_a_point_and_see_what_one_noise_does_not() -> None:
    sigma = 0.2
    problem = gaussian_problem(float(-2.0 * np.log(sigma)), 0.0, dimension=3, count=1000)  # all data at the origin
    assert denoising.loss(problem, problem.train, sigma, torch_stream(1, "noise"), 2.0).item() < 1e-20

    def capped(x: Tensor) -> Tensor:  # the same up to three noises, flat beyond
        return problem.energy(x).clamp(max=4.5 * 3.0)

    hole = replace(problem, energy=capped)
    assert denoising.loss(hole, hole.train, sigma, torch_stream(1, "noise")).item() < 1e-3
    assert denoising.loss(hole, hole.train, sigma, torch_stream(1, "noise"), 2.0).item() > 0.3


def test_the_model_settles_once_when_training_is_over_under_the_noise_of_its_density(tmp_path: Path) -> None:
    called: list[float] = []
    problem = replace(gaussian_problem(0.0, 2.0), settle=called.append, length=2.0)
    settings = ContrastiveSettings(data_noise=0.3, steps=1, warm_steps=10)
    objective = ContrastiveDivergence(problem, settings, 1)
    for _ in range(12):
        objective.loss(np.arange(50))
    assert called == []
    carry_out(objective, training(1), settings, tmp_path / "fit", "off", "new")
    assert called == [0.6]


def test_contrastive_gradient_is_the_difference_of_moments() -> None:
    problem = gaussian_problem(0.0, 2.0)
    settings = ContrastiveSettings(negatives="mala", denoising=0.0, energy_square=0.0, steps=5)
    objective = ContrastiveDivergence(problem, settings, 1)
    loss = objective.loss(np.arange(100))
    loss.backward()
    generator = torch_stream(1, "contrastive.step.0")
    data = problem.train[:100]
    torch.randn(data.shape, generator=generator, dtype=data.dtype)
    again = Negatives(problem, settings, torch_stream(1, "contrastive.buffer"))
    fake = again.draw(data, generator)
    expected = 0.5 * (data.square().sum(-1).mean() - fake.square().sum(-1).mean()) / 2
    assert float(problem.model.k.grad) == pytest.approx(float(expected))


@pytest.mark.parametrize("negatives", ["langevin", "kinetic", "mala", "esvgd", "metropolised-esvgd"])
def test_every_kind_of_negatives_finds_the_variance_of_a_gaussian(negatives: str, tmp_path: Path) -> None:
    problem = gaussian_problem(1.5, 1.0, count=400)
    settings = ContrastiveSettings.parse(
        {"negatives": negatives, "denoising": 0.0, "energy_square": 0.0, "steps": 5, "step_length": 0.3, "buffer": 200}
    )
    objective = ContrastiveDivergence(problem, settings, 1)
    carry_out(objective, training(20), settings, tmp_path / "fit", "off", "new")
    truth = float(problem.train.var())
    assert (-problem.model.k).exp().item() == pytest.approx(truth, rel=0.25)


def test_data_in_the_particle_set_join_the_velocity_and_do_not_move() -> None:
    problem = gaussian_problem(0.0, 1.0)
    kernel = kernel_for(problem.symmetry)
    x, data = problem.train[:10], problem.train[10:30]
    augmented = AugmentedKernel(kernel, data, -data)
    joined = kernel.field(x, torch.cat([x, data]), -torch.cat([x, data]), 0.7, None)
    assert torch.allclose(augmented.field(x, x, -x, 0.7, None), joined)
    sampler = esvgd(lambda y: -problem.energy(y), augmented)
    state = sampler.init(x, torch_stream(1, "x"))
    moved, _ = sampler.step(state, torch_stream(1, "x"))
    assert moved.positions.shape == x.shape
    with pytest.raises(SettingsError, match="esvgd"):
        Negatives(problem, ContrastiveSettings(particle_set="model+data"), torch_stream(1, "x"))


def test_buffer_keeps_what_was_drawn_and_restarts_the_share_that_was_asked_for() -> None:
    problem = gaussian_problem(0.0, 1.0)
    kept = Negatives(problem, ContrastiveSettings(negatives="mala", reset=0.0, buffer=50), torch_stream(1, "b"))
    before = kept.particles.clone()
    drawn = kept.draw(problem.train[:20], torch_stream(1, "c"))
    assert int((kept.particles != before).any(1).sum()) <= 20
    assert all(bool((kept.particles == row).all(1).any()) for row in drawn)
    far = problem.__class__(
        problem.model,
        problem.energy,
        problem.symmetry,
        problem.train,
        problem.valid,
        lambda n, g: torch.full((n, 2), 9.0, dtype=torch.float64),
        1.0,
    )
    always = ContrastiveSettings(negatives="mala", reset=1.0, steps=1, step_length=1e-3)
    fresh = Negatives(far, always, torch_stream(1, "b")).draw(problem.train[:20], torch_stream(1, "c"))
    assert (fresh > 8.0).all()


def test_interrupted_training_equals_uninterrupted_training_bit_for_bit(tmp_path: Path) -> None:
    settings = ContrastiveSettings(negatives="mala", steps=2, buffer=200, warm_steps=3)
    whole = gaussian_problem(0.5, 1.0, count=300)
    carry_out(ContrastiveDivergence(whole, settings, 1), training(4), settings, tmp_path / "whole", "off", "new")
    part = gaussian_problem(0.5, 1.0, count=300)
    limited = training(4, max_minutes=1e-9)
    first = carry_out(ContrastiveDivergence(part, settings, 1), limited, settings, tmp_path / "part", "off", "new")
    assert first.stopped == "time"
    rest = gaussian_problem(0.5, 1.0, count=300)
    again = ContrastiveDivergence(rest, settings, 1)
    carry_out(again, training(4), settings, tmp_path / "part", "off", "resume")
    assert torch.equal(rest.model.k, whole.model.k)
    with pytest.raises(OccupiedError):
        carry_out(again, training(4), settings, tmp_path / "part", "off", "new")


def two_clusters() -> tuple[Tensor, Tensor]:
    generator = torch_stream(1, "clusters")
    labels = torch.arange(200) % 2
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)[labels]
    return centres + 0.5 * torch.randn(200, 2, generator=generator, dtype=torch.float64), labels


def network(outputs: int) -> nn.Module:
    layers = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, outputs)).double()
    generator = torch_stream(1, "weights")
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return layers


def test_joint_model_classifies_and_knows_where_the_data_are(tmp_path: Path) -> None:
    x, y = two_clusters()
    net = network(2)
    symmetry = trivial(2)
    problem = Problem(net, lambda v: class_energy(net(v)), symmetry, x, x[:50], around(x, 1.0, symmetry), 1.0)
    settings = ContrastiveSettings(steps=5, step_length=0.3, noise=0.3, buffer=200)
    objective = JointDivergence(problem, lambda v, t: class_loss(net(v), t), y, y[:50], settings, 1)
    found = carry_out(objective, training(30, learning_rate=0.01), settings, tmp_path / "fit", "off", "new")
    assert found.held_out < 0.1
    with torch.no_grad():
        inside, outside = problem.energy(x).mean(), problem.energy(x + torch.tensor([0.0, 6.0])).mean()
    assert outside > inside + 1.0


def test_joint_regression_learns_the_value_and_its_spread(tmp_path: Path) -> None:
    generator = torch_stream(2, "values")
    x, _ = two_clusters()
    values = x[:, 0] + 0.2 * torch.randn(200, generator=generator, dtype=torch.float64)
    net = network(3)
    symmetry = trivial(2)
    problem = Problem(net, lambda v: regression_energy(net(v)), symmetry, x, x[:50], around(x, 1.0, symmetry), 1.0)
    settings = ContrastiveSettings(steps=5, step_length=0.3, noise=0.3, buffer=200)
    objective = JointDivergence(problem, lambda v, t: regression_loss(net(v), t), values, values[:50], settings, 1)
    carry_out(objective, training(60, learning_rate=0.02), settings, tmp_path / "fit", "off", "new")
    with torch.no_grad():
        outputs = net(x)
    assert float((outputs[:, 1] - values).square().mean().sqrt()) < 0.4
    assert float((0.5 * outputs[:, 2]).exp().mean()) == pytest.approx(0.2, abs=0.15)


def test_labels_and_data_that_do_not_fit_are_refused() -> None:
    problem = gaussian_problem(0.0, 1.0)
    with pytest.raises(InputError, match="one per example"):
        JointDivergence(problem, lambda v, t: t.sum(), torch.zeros(3), torch.zeros(3), ContrastiveSettings(), 1)
    bad = problem.train.clone()
    bad[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        Problem(problem.model, problem.energy, problem.symmetry, bad, problem.valid, problem.start, 1.0)
    with pytest.raises(InputError, match="vectors"):
        Problem(problem.model, problem.energy, problem.symmetry, bad[:, :1], problem.valid, problem.start, 1.0)


def test_a_learned_energy_of_dw4_is_a_density_that_samplers_take() -> None:
    from mlsim.chem.catalog import load_system
    from mlsim.fitting.density.problem import conformations
    from mlsim.models.contract import bind, create

    molecule, target = load_system("dw4"), by_name("dw4")
    model = create("ebm", {"vocabulary": ["PT"], "space": 2, "features": 8, "layers": 1, "trap": 0.2}, 1).double()
    bound = bind(model, molecule.atom_types, molecule.charges)
    x = target.start(20, torch_stream(1, "x"), torch.float64)
    problem = conformations(bound, x.reshape(20, 4, 2), x.reshape(20, 4, 2))
    assert problem.symmetry.name == target.symmetry.name
    element = target.symmetry.draw(torch_stream(1, "g"), torch.float64)
    moved = target.symmetry.act(element, problem.train)
    assert torch.allclose(problem.energy(moved), problem.energy(problem.train), rtol=0, atol=1e-9)
    for negatives in ("esvgd", "metropolised-esvgd"):
        settings = ContrastiveSettings.parse({"negatives": negatives, "steps": 2, "buffer": 16})
        drawn = Negatives(problem, settings, torch_stream(1, "b")).draw(problem.train[:8], torch_stream(1, "c"))
        assert torch.isfinite(drawn).all()
