"""Networks that do not see a quarter turn, and what their outputs mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.digits.digit_problem import pixel_symmetry, turned_at_random
from benchmarks.digits.image_energy import ImageSettings, PooledImageNetwork, quarter_turns
from mlsim.errors import InputError
from mlsim.models.ebm.joint_outputs import class_energy, class_loss, regression_energy, regression_loss


def images(seed: int, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 2**31), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_pooled_density_does_not_change_under_quarter_turns(seed: int, turns: int) -> None:
    network = PooledImageNetwork(ImageSettings(channels=4), 1).double()
    x = images(seed)
    turned = torch.rot90(x.reshape(-1, 8, 8), turns, (1, 2)).reshape(-1, 64)
    assert torch.allclose(class_energy(network(x)), class_energy(network(turned)), rtol=0, atol=1e-10)


def test_plain_network_has_the_same_parameters_and_sees_the_turn() -> None:
    plain = PooledImageNetwork(ImageSettings(channels=4, group="none"), 1).double()
    pooled = PooledImageNetwork(ImageSettings(channels=4), 1).double()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), pooled.parameters(), strict=True))
    x = images(0)
    turned = torch.rot90(x.reshape(-1, 8, 8), 1, (1, 2)).reshape(-1, 64)
    assert (plain(x) - plain(turned)).abs().max() > 1e-3
    four = [plain(torch.rot90(x.reshape(-1, 8, 8), k, (1, 2)).reshape(-1, 64)) for k in range(4)]
    assert torch.allclose(pooled(x), torch.stack(four).mean(0))


def test_quarter_turn_matrix_is_the_exact_rotation_and_generates_four_elements() -> None:
    x = images(1)
    turned = torch.rot90(x.reshape(-1, 8, 8), 1, (1, 2)).reshape(-1, 64)
    assert torch.equal(x @ quarter_turns(8).T, turned)
    symmetry = pixel_symmetry(PooledImageNetwork(ImageSettings(channels=2), 1))
    assert symmetry.order == 4
    assert symmetry.dimension == 64


def test_random_turns_only_turn() -> None:
    x = images(2, 50)
    turned = turned_at_random(8)(x, torch.Generator().manual_seed(0))
    candidates = torch.stack([torch.rot90(x.reshape(-1, 8, 8), k, (1, 2)).reshape(-1, 64) for k in range(4)])
    hit = (candidates == turned).all(-1)
    assert hit.any(0).all()
    assert hit.any(1).all()


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match="8 x 8"):
        PooledImageNetwork(ImageSettings(channels=2), 1)(torch.zeros(2, 49))


def test_joint_of_class_and_image_is_the_product_of_its_parts() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64)
    log_x = -class_energy(logits)
    log_y = logits.log_softmax(1)
    assert torch.allclose(log_x[:, None] + log_y, logits)
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert torch.allclose(class_loss(logits, labels), -log_y[torch.arange(5), labels].mean())


def test_regression_loss_is_that_of_a_normal_distribution() -> None:
    outputs = torch.randn(6, 3, dtype=torch.float64)
    values = torch.randn(6, dtype=torch.float64)
    normal = torch.distributions.Normal(outputs[:, 1], torch.exp(0.5 * outputs[:, 2]))
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
    assert torch.allclose(regression_loss(outputs, values) + constant, -normal.log_prob(values).mean())
    assert torch.equal(regression_energy(outputs), outputs[:, 0])
