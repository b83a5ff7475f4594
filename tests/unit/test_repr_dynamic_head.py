"""Dynamic Head: deformable convolution, the three attentions, offset modes, published weights."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mlsim.errors import ArtifactError, InputError, MissingError, SettingsError
from mlsim.repr.dynamic_head.network.attention import ScaleAttention, SpatialAttention, TaskAttention
from mlsim.repr.dynamic_head.network.block import DyHeadBlock, DyHeadSettings, shrink_crop, shrink_flat
from mlsim.repr.dynamic_head.network.deform import deform_conv2d
from mlsim.repr.dynamic_head.network.neck import DyHeadNeck
from mlsim.repr.dynamic_head.released import from_state, load_neck, to_state

SMALL = {"in_channels": 8, "channels": 16, "groups": 4, "blocks": 2}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(stride: int, size: tuple[int, int], scale: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, offsets, masks and weights of one deformable convolution with padding 1."""
    features = normal(2, 3, *size, seed=seed)
    rows, columns = ((n - 1) // stride + 1 for n in size)
    offset = scale * normal(2, 18, rows, columns, seed=seed + 1)
    mask = torch.sigmoid(normal(2, 9, rows, columns, seed=seed + 2))
    return features, offset, mask, normal(5, 3, 3, 3, seed=seed + 3)


def pyramid(
    channels: int = 8, sizes: tuple[tuple[int, int], ...] = ((12, 16), (6, 8), (3, 4))
) -> OrderedDict[str, Tensor]:
    return OrderedDict((f"p{k}", normal(2, channels, *size, seed=k).float()) for k, size in enumerate(sizes))


@given(
    stride=st.sampled_from([1, 2]),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_zero_offsets_and_unit_masks_are_a_plain_convolution(stride: int, rows: int, columns: int, seed: int) -> None:
    features, offset, mask, weight = case(stride, (rows, columns), 1.0, seed)
    bias = normal(5, seed=seed)
    plain = functional.conv2d(features, weight, bias, stride=stride, padding=1)
    zero, one = torch.zeros_like(offset), torch.ones_like(mask)
    assert torch.allclose(deform_conv2d(features, zero, one, weight, bias, stride=stride, padding=1), plain, atol=1e-12)


def test_zero_offsets_agree_with_a_plain_convolution_to_1e_6_in_single_precision() -> None:
    features, weight = normal(2, 16, 31, 33).float(), normal(8, 16, 3, 3, seed=1).float() / 12
    moved = deform_conv2d(features, torch.zeros(2, 18, 31, 33), torch.ones(2, 9, 31, 33), weight, padding=1)
    assert (moved - functional.conv2d(features, weight, padding=1)).abs().max() <= 1e-6


def test_whole_pixel_offsets_shift_the_image() -> None:
    features, offset, mask, weight = case(1, (7, 8), 0.0, 3)
    offset[:, 0::2] = 2.0  # down by two
    shifted = torch.zeros_like(features)
    shifted[:, :, :-2] = features[:, :, 2:]
    inner = slice(1, 4)  # away from the upper border, where shifting and padding differ
    expected = functional.conv2d(shifted, weight, padding=1)
    got = deform_conv2d(features, offset, torch.ones_like(mask), weight, padding=1)
    assert torch.allclose(got[:, :, inner], expected[:, :, inner], atol=1e-12)


def test_samples_outside_the_image_are_zero() -> None:
    features, offset, mask, weight = case(1, (6, 6), 0.0, 4)
    assert torch.equal(
        deform_conv2d(features, offset + 50.0, mask, weight, padding=1), torch.zeros(2, 5, 6, 6).double()
    )


def test_the_gradient_is_the_derivative() -> None:
    features, offset, mask, weight = (tensor.requires_grad_() for tensor in case(2, (5, 4), 0.7, 5))
    assert torch.autograd.gradcheck(
        lambda a, b, c, d: deform_conv2d(a, b, c, d, stride=2, padding=1), (features, offset, mask, weight)
    )


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_equals_torchvisions_in_value_and_gradient(stride: int, scale: float) -> None:
    try:
        from torchvision.ops import deform_conv2d as compiled
    except Exception:
        pytest.skip("LOUD SKIP: torchvision cannot be imported here")
    inputs = [tensor.requires_grad_() for tensor in case(stride, (9, 11), scale, 6)]
    ours = deform_conv2d(inputs[0], inputs[1], inputs[2], inputs[3], stride=stride, padding=1)
    theirs = compiled(inputs[0], inputs[1], inputs[3], stride=stride, padding=1, mask=inputs[2])
    assert torch.allclose(ours, theirs, atol=1e-12)
    pull = normal(*ours.shape, seed=9)
    for a, b in zip(torch.autograd.grad(ours, inputs, pull), torch.autograd.grad(theirs, inputs, pull), strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_a_place_that_is_not_a_number_gives_a_value_that_is_none() -> None:
    features, offset, mask, weight = case(1, (4, 4), 0.0, 7)
    offset[0, 0, 1, 2] = float("nan")
    got = deform_conv2d(features, offset, mask, weight, padding=1)
    assert torch.isnan(got[0, :, 1, 2]).all()
    assert torch.isfinite(got[1]).all()


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    features, offset, mask, weight = case(1, (6, 6), 1.0, 8)
    with pytest.raises(InputError, match=r"expected offset of shape \[2, 18, 3, 3\]"):
        deform_conv2d(features, offset, mask, weight, stride=2, padding=1)
    with pytest.raises(InputError, match="expected 4 channels, got 3"):
        deform_conv2d(features, offset, mask, normal(5, 4, 3, 3), padding=1)


@given(scale=st.floats(0.01, 1000.0), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_scale_attention_lies_between_a_half_and_one(scale: float, seed: int) -> None:
    attention = ScaleAttention(8).double()
    weights = attention(scale * normal(3, 8, 4, 5, seed=seed))
    assert weights.shape == (3, 1, 1, 1)
    assert (weights >= 0.5).all()
    assert (weights <= 1.0).all()


def test_spatial_attention_starts_with_no_offset_and_masks_of_a_half() -> None:
    offset, mask = SpatialAttention(8).double()(normal(2, 8, 5, 6))
    assert (offset.shape, mask.shape) == ((2, 18, 5, 6), (2, 9, 5, 6))
    assert torch.equal(offset, torch.zeros_like(offset))
    assert torch.equal(mask, torch.full_like(mask, 0.5))


def test_task_attention_with_a_zero_last_layer_is_relu() -> None:
    attention = TaskAttention(8).double()
    torch.nn.init.zeros_(attention.expand.weight)
    features = normal(2, 8, 4, 4)
    assert torch.allclose(attention(features), features.clamp(min=0.0), atol=1e-15)


def test_task_attention_is_the_larger_of_two_lines() -> None:
    attention = TaskAttention(1).double()
    torch.nn.init.zeros_(attention.expand.weight)
    with torch.no_grad():
        attention.expand.bias.copy_(torch.tensor([3.0, -3.0, -3.0, 3.0]))  # u = 1, 0, 0, 1
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)
    assert torch.allclose(attention(x), torch.maximum(2.0 * x - 0.5, -x + 0.5))


def test_switching_space_off_is_the_head_with_zero_offsets_and_unit_masks() -> None:
    with_space = DyHeadBlock(8, DyHeadSettings(**SMALL, offset_mode="flat"))
    without = DyHeadBlock(8, DyHeadSettings(**SMALL, space=False))
    without.load_state_dict({k: v for k, v in with_space.state_dict().items() if not k.startswith("space")})
    with torch.no_grad():
        with_space.space.predict.bias[18:] = 100.0  # masks of 1
    for a, b in zip(with_space(pyramid()).values(), without(pyramid()).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("off", ["scale", "space", "task"])
def test_every_attention_changes_the_result_and_can_be_switched_off(off: str) -> None:
    torch.manual_seed(0)
    whole = DyHeadBlock(8, DyHeadSettings(**SMALL))
    torch.nn.init.normal_(whole.space.predict.weight, std=0.3)
    torch.nn.init.normal_(whole.task.expand.weight, std=0.5)
    part = DyHeadBlock(8, DyHeadSettings(**SMALL, **{off: False}))
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith(off)})
    assert not any(key.startswith(off) for key in part.state_dict())
    assert not torch.allclose(whole(pyramid())["p1"], part(pyramid())["p1"], atol=1e-3)


def test_flat_reads_the_buffer_in_order_and_crop_the_corner() -> None:
    values = torch.arange(2.0 * 18 * 4 * 6).view(2, 18, 4, 6)
    flat = shrink_flat(values, 18, 2, 3)
    assert flat.flatten(1)[0].tolist() == list(range(18 * 6))
    assert flat[1, 0, 0, 0] == 18 * 4 * 6
    assert torch.equal(shrink_crop(values, 18, 2, 3), values[:, :, :2, :3])


def test_offset_modes_agree_on_one_level_and_differ_on_a_pyramid() -> None:
    torch.manual_seed(1)
    state = None
    results = {}
    for mode in ("resize", "crop", "flat"):
        neck = DyHeadNeck(DyHeadSettings(**SMALL, offset_mode=mode))
        for block in neck.blocks:
            torch.nn.init.normal_(block.space.predict.weight, std=0.2)
        state = state or neck.state_dict()
        neck.load_state_dict(state)
        results[mode] = (neck({"p0": pyramid()["p0"]})["p0"], neck(pyramid())["p0"])
    for mode in ("crop", "flat"):
        assert torch.equal(results["resize"][0], results[mode][0])
        assert not torch.allclose(results["resize"][1], results[mode][1], atol=1e-3)
    assert not torch.allclose(results["flat"][1], results["crop"][1], atol=1e-3)


def test_resize_uses_every_offset_where_it_was_predicted_and_flat_elsewhere() -> None:
    changed = {}
    for mode in ("resize", "flat"):
        torch.manual_seed(2)
        block = DyHeadBlock(8, DyHeadSettings(**SMALL, offset_mode=mode, scale=False, task=False))
        torch.nn.init.normal_(block.space.predict.weight, std=0.02)
        block.coarser.norm = block.same.norm = torch.nn.Identity()  # it would carry a change everywhere
        fine, coarse = normal(1, 8, 32, 32).float(), normal(1, 8, 16, 16, seed=1).float()
        poked = fine.clone()
        poked[:, :, 28:, :4] += 1.0
        with torch.no_grad():
            before, after = (block(OrderedDict(a=level, b=coarse))["a"] for level in (fine, poked))
        changed[mode] = float((after - before)[:, :, :22].abs().max())
    assert changed["resize"] == 0.0
    assert changed["flat"] > 1e-3


def test_the_neck_keeps_names_order_and_sizes() -> None:
    neck = DyHeadNeck(DyHeadSettings(**SMALL))
    levels = pyramid(sizes=((13, 7), (7, 4), (4, 2)))
    result = neck(levels)
    assert list(result) == list(levels)
    assert [tuple(t.shape) for t in result.values()] == [(2, 16, 13, 7), (2, 16, 7, 4), (2, 16, 4, 2)]
    assert neck.out_channels == 16


def test_the_neck_refuses_what_does_not_fit() -> None:
    neck = DyHeadNeck(DyHeadSettings(**SMALL))
    with pytest.raises(InputError, match="level 'p0': expected \\[B, 8, H, W\\]"):
        neck(pyramid(channels=4))
    with pytest.raises(InputError, match="level 'p1': expected 6 x 8"):
        neck(pyramid(sizes=((12, 16), (5, 8))))
    with pytest.raises(InputError, match="at least one level"):
        neck({})
    with pytest.raises(SettingsError, match="multiple of groups"):
        DyHeadSettings.parse({"channels": 20, "groups": 16})


def test_the_neck_drops_into_torchvisions_fcos() -> None:
    try:
        from torchvision.models.detection import FCOS
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.ops import FeaturePyramidNetwork
    except Exception:
        pytest.skip("LOUD SKIP: torchvision cannot be imported here")

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = torch.nn.ModuleList(torch.nn.Conv2d(a, 8, 3, 2, 1) for a in (3, 8, 8))
            self.fpn = FeaturePyramidNetwork([8, 8, 8], 8)
            self.neck = DyHeadNeck(DyHeadSettings(in_channels=8, channels=32, blocks=1))
            self.out_channels = self.neck.out_channels

        def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
            levels = OrderedDict()
            for k, stage in enumerate(self.stages):
                images = levels[str(k)] = stage(images)
            return self.neck(self.fpn(levels))

    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    model = FCOS(Backbone(), num_classes=2, anchor_generator=anchors, min_size=64, max_size=64)
    target = {"boxes": torch.tensor([[8.0, 8.0, 30.0, 40.0]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, 64, 64)], [target])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert model.backbone.neck.blocks[0].same.conv.weight.grad.abs().max() > 0


def official_keys() -> set[str]:
    """Key names of one block as the authors' modules make them."""
    keys = {f"DyConv.{k}.{part}.{kind}" for k in range(3) for part in ("conv", "bn") for kind in ("weight", "bias")}
    for name in ("AttnConv.1", "offset", "relu.fc.0", "relu.fc.2"):
        keys |= {f"{name}.weight", f"{name}.bias"}
    return keys


def mmdet_keys() -> set[str]:
    """Key names of one block as mmdet's modules make them: no bias in the deformable convolutions."""
    keys = set()
    for which in ("high", "mid", "low"):
        keys |= {f"spatial_conv_{which}.{end}" for end in ("conv.weight", "norm.weight", "norm.bias")}
    for name in (
        "spatial_conv_offset",
        "scale_attn_module.1",
        "task_attn_module.conv1.conv",
        "task_attn_module.conv2.conv",
    ):
        keys |= {f"{name}.weight", f"{name}.bias"}
    return keys


@pytest.mark.parametrize(
    ("family", "prefix", "keys", "mode"),
    [
        ("official", "backbone.dyhead_tower", official_keys(), "flat"),
        ("mmdet", "neck.dyhead_blocks", mmdet_keys(), "crop"),
    ],
)
def test_published_names_go_round(family: str, prefix: str, keys: set[str], mode: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    neck = DyHeadNeck(DyHeadSettings(**SMALL, offset_mode=mode)).eval()
    for name, parameter in neck.named_parameters():
        if family == "official" or not name.endswith("conv.bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    state = to_state(neck, family)
    assert set(state) == {f"{prefix}.{number}.{key}" for number in range(2) for key in keys}
    assert state[f"{prefix}.0.{'offset' if family == 'official' else 'spatial_conv_offset'}.weight"].shape == (
        27,
        8,
        3,
        3,
    )
    path = tmp_path / "published.pth"
    outer = {"model": state, "iteration": 5} if family == "official" else {"state_dict": state, "meta": {"epoch": 1}}
    torch.save(outer, path)
    again = load_neck(path, groups=4)
    assert again.settings.offset_mode == mode
    for a, b in zip(neck(pyramid()).values(), again(pyramid()).values(), strict=True):
        assert torch.equal(a, b)


def test_other_keys_of_a_detector_are_left_alone_and_missing_ones_named() -> None:
    state = to_state(DyHeadNeck(DyHeadSettings(**SMALL)), "official")
    more = {**state, "backbone.fpn.weight": torch.ones(2), "pixel_mean": torch.ones(3)}
    assert from_state(more, groups=4).settings.blocks == 2
    del more["backbone.dyhead_tower.1.offset.bias"]
    with pytest.raises(ArtifactError, match=r"blocks\.1\.space\.predict\.bias"):
        from_state(more, groups=4)
    with pytest.raises(ArtifactError, match="holds no Dynamic Head"):
        from_state({"pixel_mean": torch.ones(3)})


def test_mmdet_has_no_name_for_a_bias() -> None:
    neck = DyHeadNeck(DyHeadSettings(**SMALL))
    torch.nn.init.ones_(neck.blocks[1].finer.conv.bias)
    with pytest.raises(InputError, match=r"blocks\.1\.finer\.conv\.bias is not zero"):
        to_state(neck, "mmdet")
    with pytest.raises(InputError, match="all three attentions"):
        to_state(DyHeadNeck(DyHeadSettings(**SMALL, task=False)), "official")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        load_neck(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ArtifactError, match="cannot be read as plain tensors"):
        load_neck(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ArtifactError, match="expected a state dict, got list"):
        load_neck(tmp_path / "list.pth")


@pytest.mark.skipif(
    not (Path(os.environ.get("MLSIM_WEIGHTS", "")) / "dyhead_r50_atss_fpn_1x.pth").is_file(),
    reason="set MLSIM_WEIGHTS to a directory with dyhead_r50_atss_fpn_1x.pth",
)
def test_the_authors_weights_load() -> None:
    neck = load_neck(Path(os.environ["MLSIM_WEIGHTS"]) / "dyhead_r50_atss_fpn_1x.pth")
    assert (neck.settings.blocks, neck.settings.channels, neck.settings.offset_mode) == (6, 256, "flat")
    levels = OrderedDict((f"p{k}", torch.zeros(1, 256, 2**k, 2**k)) for k in (5, 4, 3, 2, 1))
    assert all(torch.isfinite(level).all() for level in neck(levels).values())
