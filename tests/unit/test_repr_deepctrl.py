"""Networks with a rule dial: gradients, ratios, balance, rules, the pendulum, choosing the strength."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.repr.pendulum import Pendulum
from mlsim.errors import ArtifactError, InputError, MissingError, SettingsError
from mlsim.models.contract import bind, create
from mlsim.repr.deepctrl import molecule_rules
from mlsim.repr.deepctrl.balance import BalanceWarning, initial
from mlsim.repr.deepctrl.control import is_monotone, match_ratio, select_alpha, sweep, verification_ratio
from mlsim.repr.deepctrl.dial_network import NetworkSettings, RuleControlled, load
from mlsim.repr.deepctrl.propagation import lagged_pairs
from mlsim.repr.deepctrl.rules import All, Inequality, Perturbation, lifted_over, raised
from mlsim.repr.deepctrl.training import TrainingSettings, fit
from mlsim.seeds import torch_stream

SMALL = {"inputs": 2, "outputs": 1, "shared": (8,), "encoder": (8, 8), "head": (8,)}


def network(seed: int = 1, **other: object) -> RuleControlled:
    """A small network."""
    return RuleControlled(NetworkSettings.parse({**SMALL, **other}), torch_stream(seed, "test"))


def generator() -> torch.Generator:
    """A generator of its own for every call."""
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("coupling", ["concat", "add"])
def test_at_the_ends_of_the_dial_one_encoder_is_cut_off_gradient_and_all(coupling: str) -> None:
    model = network(coupling=coupling)
    x = torch.randn((5, 2), generator=generator())
    for alpha, silent, heard in (
        (0.0, model.rule_encoder, model.data_encoder),
        (1.0, model.data_encoder, model.rule_encoder),
    ):
        model.zero_grad()
        model(x, alpha).sum().backward()
        assert silent is not None
        assert heard is not None
        assert all(p.grad is None or not p.grad.any() for p in silent.parameters())
        assert any(p.grad is not None and p.grad.any() for p in heard.parameters())


def test_one_strength_per_row_equals_the_same_strength_for_all() -> None:
    model, x = network(), torch.randn((3, 2), generator=generator())
    rows = model(x, torch.tensor([0.0, 0.5, 1.3]))
    single = torch.cat([model(x[k : k + 1], a) for k, a in enumerate((0.0, 0.5, 1.3))])
    assert torch.allclose(rows, single, atol=1e-6)


def test_the_baseline_network_does_not_know_the_strength() -> None:
    model, x = network(encoders="one"), torch.randn((3, 2), generator=generator())
    assert torch.equal(model(x, 0.0), model(x, 5.0))
    assert model.rule_encoder is None


def test_a_residual_network_of_zeros_predicts_no_change() -> None:
    model, x = network(output="residual"), torch.randn((4, 2), generator=generator())
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
    model.standardise(x, x[:, :1] + 3.0)
    assert torch.equal(model(x, 0.3), x[:, :1])


def test_a_residual_network_needs_an_input_for_every_output() -> None:
    with pytest.raises(InputError, match="at most 2 outputs"):
        network(output="residual", outputs=3)


def test_standardised_columns_without_scatter_stay_as_they_are() -> None:
    model = network()
    x = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    model.standardise(x, torch.tensor([[3.0], [5.0]]))
    assert model.x_scale[0] == 1.0
    assert torch.isfinite(model(x, 0.5)).all()


def test_a_saved_network_predicts_the_same(tmp_path: Path) -> None:
    model, x = network(coupling="add"), torch.randn((4, 2), generator=generator())
    model.standardise(x, x[:, :1])
    model.save(tmp_path)
    assert torch.equal(load(tmp_path)(x, 0.4), model(x, 0.4))
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="damaged"):
        load(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(MissingError):
        load(tmp_path)


def test_the_balance_is_the_ratio_of_the_first_losses_and_a_collapse_is_said_aloud() -> None:
    assert initial(3.0, 2.0, 0.1, 10.0).rho == 1.5
    assert initial(300.0, 2.0, 0.1, 10.0).rho == 10.0
    with pytest.warns(BalanceWarning, match="nearly obeys the rule"):
        found = initial(1e-4, 1.0, 0.1, 10.0)
    assert found.rho == 0.1
    assert found.unclamped == pytest.approx(1e-4)
    with pytest.raises(InputError):
        initial(1.0, 1.0, 0.0, 10.0)


def test_training_warns_when_the_untrained_network_obeys() -> None:
    x = torch.randn((40, 2), generator=generator())
    easy = Inequality(lambda x, y: y[:, 0] - 1e3)
    with pytest.warns(BalanceWarning):
        found = fit(network(), easy, (x, x[:, :1]), (x, x[:, :1]), TrainingSettings(epochs=1), 1)
    assert found.balance.unclamped == 0.0
    assert found.balance.rho == 0.1


def trained(seed: int = 1, **other: object) -> tuple[RuleControlled, Inequality, torch.Tensor, torch.Tensor]:
    """y = x_0 + noise, under the rule y >= 0 that the data keep half the time."""
    stream = generator()
    x = torch.randn((400, 2), generator=stream)
    y = x[:, :1] + 0.1 * torch.randn((400, 1), generator=stream)
    rule = Inequality(lambda x, y: -y[:, 0])
    model = network(seed, **other)
    config = TrainingSettings(epochs=25, rho=1.0, learning_rate=5e-3)
    fit(model, rule, (x[:300], y[:300]), (x[300:], y[300:]), config, seed)
    return model, rule, x[300:], y[300:]


def test_the_ratio_rises_with_the_strength_without_training_again() -> None:
    model, rule, x, y = trained()
    found = sweep(model, rule, x, y, [0.0, 0.25, 0.5, 0.75, 1.0])
    assert is_monotone([s.ratio for s in found], 0.02)
    assert found[0].ratio < 0.65
    assert found[-1].ratio > 0.95
    # the rule has its price: at full strength the error is that of |x| at least
    assert found[0].mae < 0.2 < found[-1].mae


def test_training_is_repeatable() -> None:
    first, second = trained()[0], trained()[0]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_strength_is_chosen_by_error_by_ratio_and_without_labels() -> None:
    model, rule, x, y = trained()
    alphas = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    found = sweep(model, rule, x, y, alphas)
    assert select_alpha(found).mae == min(s.mae for s in found)
    strict = select_alpha(found, 0.9)
    assert strict.ratio >= 0.9
    assert strict.mae == min(s.mae for s in found if s.ratio >= 0.9)
    with pytest.raises(InputError, match="highest of the sweep"):
        select_alpha(found, 1.01)
    # on inputs of which more break the rule, the same ratio needs more strength
    shifted = x - torch.tensor([1.0, 0.0])
    fine = torch.linspace(0, 1, 41).tolist()
    here = match_ratio(model, rule, x, 0.8, fine)
    there = match_ratio(model, rule, shifted, 0.8, fine)
    assert there > here


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 1))
@settings(max_examples=50, deadline=None)
def test_an_inequality_is_violated_by_what_exceeds_the_bound(x: float, y: float, bound: float) -> None:
    rule = Inequality(lambda a, b: a[:, 0] - b[:, 0], bound)
    a, b = torch.tensor([[x]], dtype=torch.float64), torch.tensor([[y]], dtype=torch.float64)
    amount, applies = rule.violation(lambda z: z, a, b, generator())
    assert amount.item() == pytest.approx(max(x - y - bound, 0.0))
    assert applies.all()


def test_a_trend_is_checked_on_pairs_at_the_same_strength() -> None:
    x = torch.linspace(-1, 1, 9).unsqueeze(1)
    rising = Perturbation(raised(0, 0.5, scale=1.0), "up")
    for slope, broken in ((1.0, False), (-1.0, True), (0.0, False)):
        amount, applies = rising.violation(lambda z, s=slope: s * z, x, slope * x, generator())
        assert applies.all()
        assert bool((amount > 0).all()) == broken
        falling = Perturbation(raised(0, 0.5, scale=1.0), "down")
        opposite, _ = falling.violation(lambda z, s=slope: -s * z, x, -slope * x, generator())
        assert torch.allclose(amount, opposite)


def test_relative_perturbations_of_zero_cannot_be_compared() -> None:
    x = torch.tensor([[0.0], [2.0]])
    _, applies = Perturbation(raised(0, 0.1)).violation(lambda z: z, x, x, generator())
    assert applies.tolist() == [False, True]


def test_a_step_rule_looks_at_pairs_across_the_step_and_trains_a_network() -> None:
    step = Perturbation(lifted_over(0, 0.0, 1.0), "up")
    x = torch.randn((300, 2), generator=generator())
    _, applies = step.violation(lambda z: z[:, :1], x, x[:, :1], generator())
    assert torch.equal(applies, x[:, 0] <= 0)
    # the data say the opposite of the rule; the dial decides who is believed
    y = -0.5 * x[:, :1]
    model = network()
    config = TrainingSettings(epochs=30, rho=1.0, learning_rate=5e-3)
    fit(model, step, (x[:200], y[:200]), (x[200:], y[200:]), config, 1)
    data, rule = (verification_ratio(model, step, x[200:], a, tolerance=1e-3) for a in (0.0, 1.0))
    assert data < 0.2
    assert rule > 0.8


def test_a_ratio_without_any_comparable_input_is_refused() -> None:
    step = Perturbation(lifted_over(0, -9.0, 1.0), "up")
    with pytest.raises(InputError, match="none of the 4 inputs"):
        verification_ratio(network(), step, torch.zeros((4, 2)), 0.5)


def test_several_rules_hold_where_all_hold() -> None:
    low, high = Inequality(lambda x, y: -y[:, 0]), Inequality(lambda x, y: y[:, 0] - 1.0)
    y = torch.tensor([[-0.5], [0.5], [1.5]])
    amount, _ = All([low, high], [1.0, 2.0]).violation(lambda z: z, y, y, generator())
    assert amount.tolist() == pytest.approx([0.5, 0.0, 1.0])
    with pytest.raises(InputError, match="one positive weight"):
        All([low], [0.0])


def test_the_pendulum_loses_energy_at_the_rate_of_its_friction() -> None:
    pendulum = Pendulum(friction=0.3, seconds=5.0)
    states = torch.from_numpy(pendulum.trajectory())
    energy = pendulum.energy(states)
    lost = 0.3 * (states[:, 1] ** 2 + states[:, 3] ** 2)
    summed = torch.trapezoid(lost, dx=1 / 200)
    assert (energy[0] - energy[-1]).item() == pytest.approx(summed.item(), rel=1e-4)
    assert (energy.diff() <= 1e-9).all()


def test_the_pendulum_without_friction_keeps_its_energy_and_swings_at_its_modes() -> None:
    free = Pendulum(friction=0.0, seconds=10.0, start=(1e-3, 0.0), masses=(1.0, 1.0))
    states = torch.from_numpy(free.trajectory())
    energy = free.energy(states)
    assert (energy.max() - energy.min()).item() < 1e-7 * abs(energy[0].item())
    # small swings of equal masses: omega^2 = g (2 -+ sqrt 2), theta_1 is half of each
    time = np.arange(len(states)) / 200
    modes = [np.cos(np.sqrt(9.81 * (2 + s * np.sqrt(2))) * time) for s in (-1, 1)]
    assert np.abs(states[:, 0].numpy() - 0.5e-3 * (modes[0] + modes[1])).max() < 2e-8


def test_the_parts_of_the_pendulum_follow_each_other_in_time() -> None:
    pendulum = Pendulum(seconds=20.0, ahead_s=0.1)
    train, valid, test = pendulum.parts()
    assert [len(part[0]) for part in (train, valid, test)] == [120, 20, 60]
    assert torch.equal(train[1][:-1], train[0][1:])
    assert torch.equal(train[1][-1], valid[0][0])
    near = Pendulum(seconds=20.0, ahead_s=0.005).parts()[0]
    assert (near[1] - near[0]).abs().max() < 0.2 * (train[1] - train[0]).abs().max()
    with pytest.raises(InputError, match=r"multiple of 0\.005"):
        Pendulum(ahead_s=0.007)


def test_geometry_rules_by_hand() -> None:
    # three atoms on a line: 0.1 nm and 0.13 nm apart
    flat = torch.tensor([[0.0, 0, 0, 0.1, 0, 0, 0.23, 0, 0]])
    bonds = molecule_rules.bond_bounds(np.array([[0, 1], [1, 2]]), np.array([0.1, 0.1]), 0.1)
    assert bonds.violation(lambda z: z, flat, flat, generator())[0].item() == pytest.approx(0.2, abs=1e-5)
    clash = molecule_rules.no_clash(np.array([[0, 2]]), np.array([0.25]))
    assert clash.violation(lambda z: z, flat, flat, generator())[0].item() == pytest.approx(0.08, abs=1e-5)
    with pytest.raises(InputError, match="pairs"):
        molecule_rules.no_clash(np.zeros((0, 2), dtype=int), np.zeros(0))


def test_the_energy_rule_takes_a_learned_energy_of_this_package() -> None:
    model = create("issnet", {"features": 8, "blocks": 1, "n_radial": 8}, 1)
    energy = bind(model, ("CT", "H1", "O"), [0.1, 0.0, -0.1]).double()
    rule = molecule_rules.energy_non_increase(energy, unit=1.0)
    x = 0.2 * torch.randn((6, 9), generator=generator(), dtype=torch.float64)
    y = x.clone().requires_grad_(True)
    moved = y + 0.05
    amount, _ = rule.violation(lambda z: z, x, moved, generator())
    # a rigid shift costs nothing
    assert amount.max().item() < 1e-9
    before, after = (energy(z.reshape(6, 3, 3)) for z in (x, 1.1 * x))
    climbed, _ = rule.violation(lambda z: z, x, 1.1 * x, generator())
    assert torch.allclose(climbed, torch.relu(after - before), atol=1e-9)


def test_bad_settings_and_data_are_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean 'beta'"):
        TrainingSettings.parse({"betta": 0.1})
    x = torch.zeros((4, 3))
    with pytest.raises(InputError, match=r"x \[n, 2\]"), warnings.catch_warnings():
        fit(network(), Inequality(lambda x, y: y[:, 0]), (x, x[:, :1]), (x, x[:, :1]), TrainingSettings(), 1)


def test_sound_geometry_watches_bonds_and_pairs_that_are_three_bonds_apart() -> None:
    # a chain of four heavy atoms, bent so that the ends are 0.35 nm apart
    chain = np.array([[[0, 0, 0], [0.15, 0, 0], [0.22, 0.13, 0], [0.37, 0.13, 0.0]]])
    rule = molecule_rules.sound_geometry(np.array([[0, 1], [1, 2], [2, 3]]), ["C", "C", "C", "C"], chain, 0.1)
    flat = torch.tensor(chain.reshape(1, 12), dtype=torch.float32)
    assert rule.violation(lambda z: z, flat, flat, generator())[0].item() == 0.0
    stretched = flat.clone()
    stretched[0, 9] += 0.03
    assert rule.violation(lambda z: z, flat, stretched, generator())[0].item() == pytest.approx(0.1, abs=1e-4)
    # turned about the middle bond the ends meet at 0.18 nm, bonds stay
    closed = flat.clone()
    middle = np.array([0.22, 0.13, 0.0])
    arm = 0.15 * np.array([0.0, 0.1, 0.0]) - middle
    closed[0, 9:] = torch.tensor(middle + 0.15 * arm / np.linalg.norm(arm), dtype=torch.float32)
    distance = float(closed[0, 9:].norm())
    amount = rule.violation(lambda z: z, flat, closed, generator())[0].item()
    assert amount == pytest.approx((0.24 - distance) / 0.24, abs=1e-4)


def test_lagged_pairs_do_not_see_overall_motion() -> None:
    stream = np.random.default_rng(1)
    shape = stream.normal(size=(6, 3))
    turned = []
    for _ in range(5):
        rotation, _ = np.linalg.qr(stream.normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        turned.append(shape @ rotation.T + stream.normal(size=3))
    x, y = lagged_pairs(np.array(turned), shape, np.arange(6), 2)
    assert x.shape == y.shape == (3, 18)
    assert (x - y).abs().max() < 1e-5
    assert (x[0] - torch.tensor(shape.reshape(-1), dtype=torch.float32)).abs().max() < 1e-5
    with pytest.raises(InputError, match="lag"):
        lagged_pairs(np.array(turned), shape, np.arange(6), 5)
