"""Stitching: cuts reproduce the network, stitches are exact where they can be, penalties have the known signs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.models.contract import create
from mlsim.models.issnet.solvation import ISSNet
from mlsim.repr.hsic.networks import Cnn, NetworkSettings
from mlsim.repr.stitching.cka import linear_cka
from mlsim.repr.stitching.cut import HookedModel
from mlsim.repr.stitching.force_fields import ForceFieldCut, ForceMatch, forces_of
from mlsim.repr.stitching.penalties import StitchSettings, penalty, stitched
from mlsim.repr.stitching.penalty_report import stitch_report
from mlsim.repr.stitching.stitch import Stitch, VectorStitch, stitch_between
from mlsim.repr.stitching.tasks import Classification, labels_of, with_readout


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rings(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes that no linear boundary tells apart: a disc in a ring, in five noisy dimensions."""
    generator = stream(seed)
    classes = torch.randint(2, (n,), generator=generator)
    x = torch.randn(n, 5, generator=generator)
    x[:, :2] = functional.normalize(x[:, :2], dim=1) * (1.0 + 1.5 * classes[:, None])
    return x, classes


def perceptron(seed: int, x: Tensor, y: Tensor, width: int = 32) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for n_in in (5, width, width):
            layers.append(nn.Sequential(nn.Linear(n_in, width), nn.ReLU()))
        model = nn.Sequential(*layers, nn.Linear(width, 2))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def peptide(frames: int = 6) -> ForceFrames:
    rng = np.random.default_rng(0)
    types = ("CT", "HC", "N", "H", "C", "O")
    return ForceFrames(
        positions=rng.normal(size=(frames, 6, 3)) * 0.3,
        forces=rng.normal(size=(frames, 6, 3)),
        atom_types=types,
        charges=np.linspace(-0.5, 0.5, 6),
        elements=("C", "H", "N", "H", "C", "O"),
        molecule_digest="0" * 16,
        cv_names=(),
        cvs=np.zeros((frames, 0)),
        bias=np.zeros(frames),
        run=np.zeros(frames, dtype=np.int64),
        time_ps=np.arange(frames, dtype=float),
    )


def issnet(seed: int) -> ISSNet:
    model = create("issnet", {"features": 8, "blocks": 3, "n_radial": 6}, seed)
    assert isinstance(model, ISSNet)
    return model


def tiny_transformer() -> HookedModel:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
    )
    model = transformers.ViTForImageClassification(config)
    names = [name for name, module in model.named_modules() if type(module).__name__ == "ViTLayer"]
    return HookedModel(model, names)


def torchvision_network() -> HookedModel:
    try:
        from torchvision.models import shufflenet_v2_x0_5
    except Exception as error:  # a wheel that does not fit torch raises RuntimeError
        pytest.skip(f"LOUD SKIP: torchvision cannot be used here: {error}")
    return HookedModel(shufflenet_v2_x0_5(num_classes=3), ["stage2", "stage3", "conv5"])


def convolutional() -> HookedModel:
    backbone = Cnn(NetworkSettings(kind="cnn", shape=(1, 8, 8), width=4, depth=2), stream())
    images = torch.rand(20, 1, 8, 8, generator=stream())
    return HookedModel(with_readout(backbone, images, torch.arange(20) % 3), ["backbone.convs.0", "backbone.convs.1"])


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: HookedModel(perceptron(1, *rings(40, 1)), ["0", "1", "2"]), rings(7, 2)[0]),
        (convolutional, torch.rand(3, 1, 8, 8)),
        (tiny_transformer, {"pixel_values": torch.rand(2, 3, 8, 8)}),
        (torchvision_network, torch.rand(2, 3, 32, 32)),
        (lambda: ForceFieldCut(issnet(1), peptide()), torch.rand(4, 6, 3)),
    ],
    ids=["perceptron", "encoder", "transformers", "torchvision", "issnet"],
)
def test_bottom_and_top_together_are_the_network(make: Callable, inputs: object) -> None:
    cut = make()
    with torch.no_grad():
        whole = cut.whole(inputs)
        for layer in cut.layers:
            torch.testing.assert_close(cut.top(layer, cut.bottom(layer, inputs), inputs), whole)
            hidden = cut.bottom(layer, inputs)
            assert not torch.allclose(cut.top(layer, torch.zeros_like(hidden), inputs), whole)


def test_cutting_leaves_the_model_as_it_was() -> None:
    model = perceptron(1, *rings(40, 1))
    before = copy.deepcopy(model.state_dict())
    cut, x = HookedModel(model, ["0", "1"]), rings(7, 2)[0]
    task = Classification(*rings(60, 3), *rings(30, 4))
    penalty(cut, cut.randomised(1), task, "1", settings=StitchSettings(steps=3))
    cut.bottom("0", x)
    assert not any(module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_least_squares_finds_an_affine_map_exactly(n_in: int, n_out: int, seed: int) -> None:
    x = torch.randn(4, 30, n_in, generator=stream(seed), dtype=torch.float64)
    weight = torch.randn(n_in, n_out, generator=stream(seed + 1), dtype=torch.float64)
    stitch = Stitch(n_in, n_out).double()
    stitch.solve(x, x @ weight + 3.0, ridge=1e-12)
    torch.testing.assert_close(stitch.weight, weight, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(stitch.bias, torch.full_like(stitch.bias, 3.0), rtol=1e-6, atol=1e-6)


def test_a_conv1x1_stitch_is_a_convolution() -> None:
    x = torch.randn(2, 3, 5, 4, generator=stream())
    stitch = stitch_between(x, torch.zeros(2, 6, 5, 4))
    assert isinstance(stitch, Stitch)
    nn.init.normal_(stitch.weight)
    nn.init.normal_(stitch.bias)
    expected = functional.conv2d(x, stitch.weight.T[:, :, None, None], stitch.bias)
    torch.testing.assert_close(stitch(x), expected, rtol=1e-4, atol=1e-5)


def rotation(seed: int) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=stream(seed), dtype=torch.float64))
    return q * torch.sign(torch.linalg.det(q)) * torch.ones_like(r)


@given(st.integers(0, 50))
@settings(deadline=None, max_examples=10)
def test_a_vector_stitch_commutes_with_rotations_and_an_affine_one_does_not(seed: int) -> None:
    x = torch.randn(5, 7, 4, 3, generator=stream(seed), dtype=torch.float64)
    turn = rotation(seed)
    target = torch.randn(5, 7, 2, 3, generator=stream(seed + 1), dtype=torch.float64)
    stitch = stitch_between(x, target, "vector").double()
    assert isinstance(stitch, VectorStitch)
    stitch.solve(x, target)
    assert stitch.weight.detach().abs().max() > 0
    torch.testing.assert_close(stitch(x @ turn), stitch(x) @ turn, rtol=1e-10, atol=1e-12)
    affine = Stitch(12, 6).double()
    affine.solve(x.flatten(2), target.flatten(2))
    turned = affine((x @ turn).flatten(2)).view(5, 7, 2, 3)
    assert not torch.allclose(turned, affine(x.flatten(2)).view(5, 7, 2, 3) @ turn, atol=1e-3)


def test_a_stitched_vector_network_stays_equivariant() -> None:
    """Two small equivariant networks (mix channels, scale by a function of the norms), one on top of the other."""

    class Equivariant(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.first = VectorStitch(3, 6).double()
            self.second = VectorStitch(6, 1).double()
            for k, part in enumerate((self.first, self.second)):
                part.weight.data.normal_(generator=stream(seed + k))

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            return self.second(hidden * torch.tanh(hidden.norm(dim=-1, keepdim=True)))

    a, b = (HookedModel(Equivariant(seed), ["first"]) for seed in (1, 5))
    x = torch.randn(9, 3, 3, generator=stream(), dtype=torch.float64)
    stitch = stitch_between(b.bottom("first", x), a.bottom("first", x), "vector").double()
    stitch.solve(b.bottom("first", x), a.bottom("first", x))
    run, turn = stitched(a, b, stitch, "first", "first"), rotation(3)
    torch.testing.assert_close(run(x @ turn), run(x) @ turn, rtol=1e-9, atol=1e-9)


def test_a_stitched_force_field_is_invariant_and_its_forces_are_its_gradient() -> None:
    frames = peptide()
    a, b = (ForceFieldCut(issnet(seed).double(), frames) for seed in (1, 2))
    positions = torch.tensor(frames.positions)
    for layer in a.layers:
        x, y = b.bottom(layer, positions), a.bottom(layer, positions)
        stitch = stitch_between(x, y).double()
        stitch.solve(x, y)
        run = stitched(a, b, stitch, layer, layer)
        energies = run(positions)
        torch.testing.assert_close(run(positions @ rotation(4) + 0.3), energies, rtol=1e-9, atol=1e-9)
        forces = forces_of(run, positions)
        step = torch.zeros_like(positions)
        step[:, 2, 1] = 1e-5
        slope = (run(positions + step) - run(positions - step)) / 2e-5
        torch.testing.assert_close(-slope, forces[:, 2, 1], rtol=1e-5, atol=1e-6)


def test_a_force_field_under_itself_costs_nothing_and_a_random_bottom_does() -> None:
    frames = peptide(40)
    model = issnet(1)
    cut = ForceFieldCut(model, frames)
    own = forces_of(cut.whole, torch.tensor(frames.positions, dtype=torch.float32)).detach().numpy()
    labelled = ForceFrames(**{**{f: getattr(frames, f) for f in frames.__dataclass_fields__}, "forces": own})
    task = ForceMatch(labelled.take(np.arange(30)), labelled.take(np.arange(30, 40)))
    given = StitchSettings(steps=2, batch_size=8)
    size = float(np.sqrt(np.mean(own**2)))
    for layer in cut.layers:
        assert penalty(cut, cut, task, layer, settings=given).penalty < 0.01 * size
    assert penalty(cut, cut.randomised(7), task, "block.3", settings=given).penalty > 0.1 * size


def test_the_report_has_the_signs_of_self_other_seed_and_random() -> None:
    train, test = rings(400, 1), rings(400, 2)
    nets = [HookedModel(perceptron(seed, *train), ["0", "1", "2"]) for seed in (1, 2, 3)]
    seen: list[int] = []
    table = stitch_report(
        nets[0],
        nets[1],
        Classification(*train, *test),
        other_seed=nets[2],
        settings=StitchSettings(steps=40),
        progress=lambda done, total: seen.append(100 * done // total),
    )
    assert list(table["layer"]) == ["0", "1", "2"]
    assert seen[-1] == 100
    assert table["self"].abs().max() <= 1.5
    assert table["penalty"].max() <= 5.0
    assert table["random"].iloc[2] > table["penalty"].iloc[2] + 3.0
    assert (table["cka"].iloc[2] > table["cka_random"].iloc[2]).all()


def test_training_never_leaves_a_stitch_worse_than_least_squares_on_the_training_rows() -> None:
    train, test = rings(200, 1), rings(100, 2)
    net = HookedModel(perceptron(1, *train), ["1"])
    wild = StitchSettings(steps=5, learning_rate=50.0)
    found = penalty(net, net, Classification(*train, *test), "1", settings=wild)
    assert found.penalty == found.direct


def test_cka_is_one_up_to_rotation_and_scale_and_agrees_between_its_two_forms() -> None:
    x = torch.randn(50, 8, generator=stream(), dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=stream(1), dtype=torch.float64))[0]
    assert linear_cka(x, 3.0 * x @ turn + 1.0) == pytest.approx(1.0)
    y = torch.randn(50, 60, generator=stream(2), dtype=torch.float64)  # wide: the Gram form
    centred = [t - t.mean(0) for t in (x, y)]
    cross = [float((a.mT @ b).square().sum()) for a, b in ((centred[0], centred[1]), *((c, c) for c in centred))]
    assert linear_cka(x, y) == pytest.approx(cross[0] / (cross[1] * cross[2]) ** 0.5)


def test_a_readout_classifies_what_is_linear_in_the_features() -> None:
    x, y = rings(300, 1)
    backbone = perceptron(2, x, y)[:3]
    net = with_readout(backbone, x, y)
    assert float((net(x).argmax(1) == y).float().mean()) > 0.97


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: HookedModel(nn.Sequential(nn.Linear(2, 2)), ["5"]), "no such submodule"),
        (lambda: HookedModel(nn.Sequential(nn.Linear(2, 2)), []), "at least one"),
        (
            lambda: HookedModel(nn.Sequential(nn.Linear(2, 2)), ["0"]).bottom("1", torch.zeros(1, 2)),
            "expected one of 0",
        ),
        (lambda: stitch_between(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)), "channels only"),
        (lambda: stitch_between(torch.zeros(2, 3), torch.zeros(2, 3), "quadratic"), "family"),
        (lambda: linear_cka(torch.zeros(4, 2), torch.zeros(5, 2)), "paired"),
        (lambda: Classification(torch.zeros(3, 2), torch.zeros(2), torch.zeros(3, 2), torch.zeros(3)), "one per input"),
        (lambda: labels_of([0.5, 1.0]), "integers"),
        (lambda: ForceFieldCut(nn.Linear(2, 2), peptide()), "ISSNet"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_refused_with_one_clear_line(call: Callable, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
