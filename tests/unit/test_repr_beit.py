"""BEiT: masks, tokenizers, initialisation, training loops, maps, foreign files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BeitForMaskedImageModeling, BeitModel

from mlsim.errors import ArtifactError, CheckpointError, InputError, MissingError
from mlsim.repr.beit import masking
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.beit_network import NetworkSettings, masked_model
from mlsim.repr.beit.beit_pretrain import PretrainSettings, learning_rate, masked_accuracy, pretrain
from mlsim.repr.beit.discrete_vae import DiscreteVaeSettings, train_discrete_vae
from mlsim.repr.beit.finetune import FineTuneSettings, classify, fine_tune
from mlsim.repr.beit.information_maps import occlusion_map, surprise_map
from mlsim.repr.beit.patch_target import Pixels, Words
from mlsim.repr.beit.tokenizer_kinds import build_tokenizer
from mlsim.repr.beit.unilm import load_unilm, to_unilm
from mlsim.repr.beit.visual_tokenizer import DalleCodebook, PatchKMeans, patches_of, usage
from mlsim.repr.registry import load_encoder

NETWORK = NetworkSettings(size=8, patch=2, hidden=16, layers=2, heads=2, feedforward=32)


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal or vertical stripes with noise, and which."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count)
    wave = 0.5 + 0.4 * np.sign(np.sin(np.pi * (np.arange(8)[None] + 0.5 + 2 * rng.integers(0, 2, count)[:, None]) / 2))
    images = np.where(kind[:, None, None] == 0, wave[:, :, None], wave[:, None, :]) + np.zeros((count, 8, 8))
    return np.clip(images + rng.normal(0, 0.05, images.shape), 0, 1).astype(np.float32), kind


def some(seed: int = 0, positions: str = "relative") -> BeitEncoder:
    images = torch.from_numpy(stripes(64, 5)[0])[:, None]
    tokenizer = PatchKMeans.fit(images, words=6, patch=2, seed=0)
    network = NetworkSettings.parse(NETWORK.model_dump() | {"positions": positions})
    return BeitEncoder(masked_model(network, 6, seed=seed), (0.5,), (0.4,), tokenizer)


PRETRAINING = PretrainSettings(steps=250, batch=32, warmup=20, learning_rate=3e-3)


@pytest.fixture(scope="module")
def pretrained() -> BeitEncoder:
    images, _ = stripes(256, 0)
    tokenizer = PatchKMeans.fit(torch.from_numpy(images)[:, None], words=6, patch=2, seed=0)
    return pretrain(images, Words(tokenizer), NETWORK, PRETRAINING, seed=0)


# ---- masks ----


@given(st.integers(4, 14), st.integers(4, 14), st.integers(0, 10**6), st.floats(0.1, 0.6))
def test_a_blockwise_mask_never_hides_more_than_its_target(h: int, w: int, seed: int, part: float) -> None:
    target = max(1, round(part * h * w))
    mask = masking.blockwise((h, w), target, np.random.default_rng(seed), min_block=4)
    assert mask.shape == (h, w)
    assert 0 <= mask.sum() <= target


def test_paper_sized_masks_come_in_blocks() -> None:
    rng = np.random.default_rng(0)
    masks = [masking.blockwise((14, 14), 75, rng) for _ in range(200)]
    counts = np.array([mask.sum() for mask in masks])
    assert counts.max() <= 75
    assert counts.mean() > 65
    together = np.mean([(m[:, 1:] & m[:, :-1]).sum() / m.sum() for m in masks])
    apart = np.mean(
        [(m[:, 1:] & m[:, :-1]).sum() / 75 for m in (masking.scattered((14, 14), 75, rng) for _ in range(200))]
    )
    assert together > 0.65 > 0.5 > apart


def test_a_scattered_mask_hides_exactly_its_target() -> None:
    assert masking.scattered((5, 6), 7, np.random.default_rng(1)).sum() == 7


@pytest.mark.parametrize("target", [0, 16, -1])
def test_a_target_outside_the_grid_is_refused(target: int) -> None:
    with pytest.raises(InputError, match="between 1 and 15"):
        masking.blockwise((4, 4), target, np.random.default_rng(0))


# ---- tokenizers ----


def test_patches_are_cut_row_by_row() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert patches_of(image, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_a_kmeans_word_is_the_nearest_centroid() -> None:
    images = torch.from_numpy(stripes(64, 0)[0])[:, None]
    tokenizer = PatchKMeans.fit(images, words=8, patch=2, seed=0)
    rows = patches_of(images, 2)
    expected = ((rows[:, :, None] - tokenizer.centroids) ** 2).sum(-1).argmin(-1)
    assert torch.equal(tokenizer.codes(images), expected)
    assert usage(tokenizer.codes(images), 8)[0] == 1.0


def test_more_words_than_patches_is_an_error() -> None:
    with pytest.raises(InputError, match="at most 1 words"):
        PatchKMeans.fit(torch.zeros(3, 1, 8, 8), words=4, patch=2, seed=0)


def test_a_discrete_vae_learns_to_paint_with_several_words() -> None:
    images = torch.from_numpy(stripes(256, 0)[0])[:, None]
    settings = DiscreteVaeSettings(patch=2, words=12, width=16, steps=250, batch=32)
    before = torch.random.get_rng_state()
    vae = train_discrete_vae(images, settings, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    codes = vae.codes(images)
    assert codes.shape == (256, 16)
    error = float(((vae.paint(codes, (4, 4)) - images) ** 2).mean())
    assert error < 0.25 * float(images.var())
    assert usage(codes, 12)[0] * 12 >= 3
    again = build_tokenizer(vae.config)
    again.load_state_dict(vae.state_dict())
    assert torch.equal(again.codes(images), codes)


def test_the_dalle_codebook_gives_one_word_per_patch(tmp_path: Path) -> None:
    from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

    torch.manual_seed(0)
    FlavaImageCodebook(FlavaImageCodebookConfig(hidden_size=8, vocab_size=20, num_blocks_per_group=1)).save_pretrained(
        tmp_path
    )
    tokenizer = DalleCodebook.from_pretrained(tmp_path, patch=4)
    images = torch.rand(3, 1, 24, 24)
    codes = tokenizer.codes(images)
    assert codes.shape == (3, 36)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 20
    again = build_tokenizer(tokenizer.config)
    again.load_state_dict(tokenizer.state_dict())
    assert torch.equal(again.codes(images), codes)
    with pytest.raises(MissingError, match="codebook"):
        DalleCodebook.from_pretrained(tmp_path / "nothing", patch=4)


def test_an_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(ArtifactError, match="unknown tokenizer"):
        build_tokenizer({"kind": "bytes"})


# ---- network ----


def test_the_initialisation_is_that_of_the_paper() -> None:
    model = masked_model(NetworkSettings(size=8, patch=2, hidden=64, layers=4, heads=4), 32, seed=0)
    state = model.state_dict()
    for number in range(4):
        wide = state[f"beit.layers.{number}.mlp.fc1.weight"].std()
        narrow = state[f"beit.layers.{number}.mlp.fc2.weight"].std()
        assert float(wide / narrow) == pytest.approx((2.0 * (number + 1)) ** 0.5, rel=0.05)
        assert float(state[f"beit.layers.{number}.lambda_1"].mean()) == pytest.approx(0.1)
    assert float(state["beit.embeddings.mask_token"].std()) == pytest.approx(0.0176, rel=0.25)  # cut at two widths
    assert float(state["beit.shared_position_bias.relative_position_bias_table"].abs().max()) == 0.0
    assert model.layernorm.eps == 1e-6


def test_the_same_seed_makes_the_same_network_and_leaves_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    a, b = masked_model(NETWORK, 6, seed=3), masked_model(NETWORK, 6, seed=3)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("positions", "absolute", "relative"), [("relative", 0, 1), ("absolute", 1, 0), ("both", 1, 1)]
)
def test_positions_are_known_as_asked(positions: str, absolute: int, relative: int) -> None:
    names = some(positions=positions).model.state_dict()
    assert sum("position_embeddings" in name for name in names) == absolute
    assert sum("position_bias_table" in name for name in names) == relative


@pytest.mark.parametrize("given_", [{"size": 9, "patch": 2}, {"size": 4, "patch": 4}, {"hidden": 10, "heads": 4}])
def test_sizes_that_do_not_fit_are_refused(given_: dict[str, int]) -> None:
    with pytest.raises(InputError):
        NetworkSettings.parse(given_)


# ---- training ----


def test_pretraining_predicts_masked_words_better_than_the_most_frequent_one(pretrained: BeitEncoder) -> None:
    right, most = masked_accuracy(pretrained, stripes(128, 9)[0], PRETRAINING, seed=0)
    assert right > most + 0.1


def test_pixels_can_be_the_target() -> None:
    images, _ = stripes(64, 0)
    target = Pixels(torch.from_numpy(images)[:, None], 2)
    encoder = pretrain(images, target, NETWORK, PretrainSettings(steps=3, batch=8), seed=0)
    with pytest.raises(InputError, match="tokenizer"):
        masked_accuracy(encoder, images, PretrainSettings(), seed=0)


def test_an_interrupted_pretraining_goes_on_bit_for_bit(tmp_path: Path) -> None:
    images, _ = stripes(32, 0)
    tokenizer = PatchKMeans.fit(torch.from_numpy(images)[:, None], words=6, patch=2, seed=0)
    network = NETWORK.model_copy(update={"drop_path": 0.2})
    settings = PretrainSettings(steps=6, batch=8, warmup=2, every=4)
    straight = pretrain(images, Words(tokenizer), network, settings, seed=1)

    class Stop(Exception):
        pass

    def stop(step: int, steps: int) -> None:
        if step == 5:
            raise Stop

    place = tmp_path / "state.pt"
    with pytest.raises(Stop):
        pretrain(images, Words(tokenizer), network, settings, seed=1, checkpoint=place, progress=stop)
    resumed = pretrain(images, Words(tokenizer), network, settings, seed=1, checkpoint=place)
    assert np.array_equal(resumed.encode(images), straight.encode(images))
    with pytest.raises(CheckpointError, match="belongs to"):
        pretrain(images, Words(tokenizer), network, settings, seed=2, checkpoint=place)


def test_the_learning_rate_warms_up_and_falls() -> None:
    settings = PretrainSettings(steps=100, warmup=10, learning_rate=1.0, last_learning_rate=0.0)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


def test_fine_tuning_starts_from_the_pretrained_network_and_learns(pretrained: BeitEncoder) -> None:
    images, kind = stripes(64, 1)
    before = pretrained.encode(images, layer="block.2")
    untouched = fine_tune(pretrained, images, kind, FineTuneSettings(steps=1, learning_rate=1e-12), seed=0)
    np.testing.assert_allclose(untouched.encode(images, layer="block.2"), before, atol=1e-5)
    tuned = fine_tune(pretrained, images, kind, FineTuneSettings(steps=100, learning_rate=5e-3), seed=0)
    test, truth = stripes(64, 2)
    assert (classify(tuned, test).argmax(1) == truth).mean() > 0.9
    assert np.array_equal(pretrained.encode(images, layer="block.2"), before), "the pre-trained encoder stays as it is"


def test_fine_tuning_refuses_what_it_cannot_use() -> None:
    encoder = some()
    images, kind = stripes(8, 1)
    with pytest.raises(InputError, match="class head"):
        classify(encoder, images)
    with pytest.raises(InputError, match="labels"):
        fine_tune(encoder, images, kind[:5], FineTuneSettings(), seed=0)


def test_layer_decay_moves_lower_layers_less() -> None:
    encoder = some()
    images, kind = stripes(32, 1)
    tuned = fine_tune(encoder, images, kind, FineTuneSettings(steps=1, warmup=0, layer_decay=0.1), seed=0)

    def moved(name: str) -> float:
        a, b = encoder.model.state_dict()[name], tuned.model.state_dict()[name]
        return float((a - b).abs().max())

    low, high = moved("beit.layers.0.mlp.fc1.weight"), moved("beit.layers.1.mlp.fc1.weight")
    assert high == pytest.approx(10 * low, rel=0.2)


# ---- maps ----


def test_surprise_is_highest_where_the_image_was_changed(pretrained: BeitEncoder) -> None:
    changed = stripes(32, 3)[0]
    changed[:, 2:4, 4:6] = 1.0 - changed[:, 2:4, 4:6]
    surprise = surprise_map(pretrained, changed)
    assert surprise.shape == (32, 4, 4)
    mean = surprise.mean(0)
    assert np.unravel_index(mean.argmax(), mean.shape) == (1, 2)
    assert (surprise_map(pretrained, changed, passes=4) >= 0).all()


def test_occlusion_of_a_grey_patch_changes_nothing() -> None:
    encoder = some()
    image = np.full((1, 8, 8), 0.9, dtype=np.float32)
    image[:, 2:4, 2:4] = 0.5
    found = occlusion_map(encoder, image)
    assert found.shape == (1, 4, 4)
    assert found[0, 1, 1] == pytest.approx(0.0, abs=1e-7)
    assert (np.delete(found.ravel(), 5) > 1e-9).all()


def test_maps_need_a_tokenizer_and_a_fair_number_of_passes() -> None:
    encoder = some()
    with pytest.raises(InputError, match="passes"):
        surprise_map(encoder, np.zeros((1, 8, 8)), passes=1)
    encoder.tokenizer = None
    with pytest.raises(InputError, match="tokenizer"):
        surprise_map(encoder, np.zeros((1, 8, 8)))


# ---- foreign files ----


def _legacy(name: str) -> str:
    """Name that transformers 4 gave a parameter."""
    for new, old in (
        ("beit.layers.", "beit.encoder.layer."),
        (".attention.q_proj.", ".attention.attention.query."),
        (".attention.k_proj.", ".attention.attention.key."),
        (".attention.v_proj.", ".attention.attention.value."),
        (".attention.o_proj.", ".attention.output.dense."),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
        ("beit.shared_position_bias.", "beit.encoder.relative_position_bias."),
    ):
        name = name.replace(new, old)
    return name


def trained(seed: int = 0, positions: str = "relative") -> BeitEncoder:
    """An encoder whose every parameter differs from a fresh one."""
    encoder = some(seed, positions)
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return encoder


def test_a_directory_with_legacy_names_loads_to_the_last_bit(tmp_path: Path) -> None:
    encoder = trained()
    encoder.model.config.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record | {"architectures": ["BeitForMaskedImageModeling"]}))
    torch.save({_legacy(k): v for k, v in encoder.model.state_dict().items()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.4]}))
    again = load_encoder(tmp_path)
    images = stripes(5, 0)[0]
    for layer in encoder.layers:
        assert np.array_equal(again.encode(images, layer=layer), encoder.encode(images, layer=layer)), layer


def test_a_pretrained_checkpoint_keeps_its_final_norm_where_the_plain_model_loses_it(tmp_path: Path) -> None:
    encoder = trained()
    encoder.model.save_pretrained(tmp_path)
    images = stripes(5, 0)[0]
    again = BeitEncoder.from_pretrained(tmp_path)
    assert torch.equal(again.norm.weight, encoder.model.layernorm.weight)
    plain, info = BeitModel.from_pretrained(tmp_path, output_loading_info=True)
    assert any("pooler.layernorm" in key for key in info["missing_keys"])
    with torch.no_grad():
        lost = plain(again.pixels(again.require(images))).pooler_output.numpy()
    assert np.abs(lost - again.encode(images)).max() > 0.1


def test_a_checkpoint_that_lacks_parameters_is_refused(tmp_path: Path) -> None:
    encoder = trained()
    encoder.model.config.save_pretrained(tmp_path)
    state = {k: v for k, v in encoder.model.state_dict().items() if "layernorm.weight" not in k}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="lacks parameters"):
        BeitEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(("head", "positions"), [("words", "relative"), ("words", "both"), ("classes", "both")])
def test_a_unilm_file_goes_round_without_loss(tmp_path: Path, head: str, positions: str) -> None:
    encoder = trained(positions=positions)
    images, kind = stripes(6, 0)
    if head == "classes":
        kind[:2] = (0, 1)
        encoder = fine_tune(encoder, images, kind, FineTuneSettings(steps=2), seed=0)
    state = to_unilm(encoder.model)
    state["blocks.0.attn.relative_position_index"] = torch.zeros(17, 17, dtype=torch.int64)
    torch.save({"model": state, "epoch": 3}, tmp_path / "beit.pth")
    again = load_encoder(tmp_path / "beit.pth")
    assert isinstance(again, BeitEncoder)
    ours, theirs = encoder.model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert state["blocks.0.attn.qkv.weight"].shape == (48, 16)
    assert "blocks.0.attn.k_bias" not in state
    if head == "words":
        assert torch.equal(again.norm.weight, encoder.model.layernorm.weight)
    assert isinstance(again.model, BeitForMaskedImageModeling) == (head == "words")


def test_a_unilm_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    torch.save({"model": {"cls_token": Bad()}}, tmp_path / "bad.pth")
    with pytest.raises(ArtifactError, match="plain tensors"):
        load_unilm(tmp_path / "bad.pth")
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ArtifactError, match="expected the parameters of a BEiT"):
        load_unilm(tmp_path / "other.pth")
    with pytest.raises(MissingError):
        load_unilm(tmp_path / "none.pth")
