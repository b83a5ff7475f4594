"""The encoder contract on the BEiT class: batches, files, errors; and the registry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.repr import registry, shipped_encoders
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.beit_network import NetworkSettings, masked_model
from mlsim.repr.beit.visual_tokenizer import PatchKMeans
from mlsim.repr.encoder import InputSettings
from mlsim.repr.registry import load_encoder

NETWORK = NetworkSettings(size=8, patch=2, hidden=16, layers=2, heads=2, feedforward=32)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((7, 8, 8)).astype(np.float32)


@pytest.fixture
def encoder(images: np.ndarray) -> BeitEncoder:
    tokenizer = PatchKMeans.fit(torch.from_numpy(images)[:, None], words=6, patch=2, seed=0)
    settings = InputSettings(kind="extension-map", size=8)
    return BeitEncoder(masked_model(NETWORK, 6, seed=1), (0.4,), (0.3,), tokenizer, settings)


@pytest.mark.parametrize("layer", ["last", "embedding", "block.1", "block.2", "norm"])
@pytest.mark.parametrize(("pool", "width"), [("mean", 16), ("cls", 16), ("cls+mean", 32), ("grid", 256)])
def test_features_do_not_depend_on_the_batch_size(
    encoder: BeitEncoder, images: np.ndarray, layer: str, pool: str, width: int
) -> None:
    whole = encoder.encode(images, layer=layer, pool=pool)
    parts = encoder.encode(images, layer=layer, pool=pool, batch_size=2)
    assert whole.shape == (7, width)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, parts, atol=1e-6)


def test_last_is_the_trained_norm_of_the_last_block(encoder: BeitEncoder, images: np.ndarray) -> None:
    with torch.no_grad():
        tokens = encoder.tokens(encoder.pixels(encoder.require(images)), "block.2")
        expected = encoder.model.layernorm(tokens)[:, 1:].mean(1).numpy()
    np.testing.assert_allclose(encoder.encode(images), expected, atol=1e-6)


def test_progress_counts_every_input_once(encoder: BeitEncoder, images: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    encoder.encode(images, batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_bytes_are_pixels_over_255(encoder: BeitEncoder, images: np.ndarray) -> None:
    raw = np.round(images * 255).astype(np.uint8)
    np.testing.assert_allclose(encoder.encode(raw), encoder.encode(raw / 255.0), atol=1e-6)


def test_a_saved_encoder_comes_back_bit_for_bit(encoder: BeitEncoder, images: np.ndarray, tmp_path: Path) -> None:
    encoder.save(tmp_path / "mine")
    again = load_encoder(tmp_path / "mine")
    assert isinstance(again, BeitEncoder)
    assert np.array_equal(again.encode(images), encoder.encode(images))
    assert again.inputs == encoder.inputs
    x = torch.from_numpy(images)[:, None]
    assert again.tokenizer is not None
    assert encoder.tokenizer is not None
    assert torch.equal(again.tokenizer.codes(x), encoder.tokenizer.codes(x))
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["encoder.json", "weights.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer": "block.9"}, "expected 'last' or one of embedding, block.1"),
        ({"pool": "median"}, "expected one of mean, cls, cls\\+mean, grid"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_a_wrong_choice_names_the_right_ones(
    encoder: BeitEncoder, images: np.ndarray, arguments: dict[str, str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        encoder.encode(images, **arguments)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((3, 8, 6)), "square"),
        (np.zeros((3, 2, 8, 8)), "channels"),
        (np.full((3, 8, 8), 2.0), r"\[0, 1\]"),
        (np.full((3, 8, 8), np.nan), "finite"),
        (np.zeros((0, 8, 8)), "at least one"),
        (np.zeros((3, 8)), "n, h, w"),
    ],
)
def test_bad_images_are_refused_with_what_is_wrong(encoder: BeitEncoder, bad: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        encoder.encode(bad)


def test_other_sizes_are_resized(encoder: BeitEncoder) -> None:
    flat = np.full((2, 16, 16), 0.25, dtype=np.float32)
    np.testing.assert_allclose(encoder.encode(flat), encoder.encode(flat[:, :8, :8]), atol=1e-5)


def test_a_device_that_is_not_there_is_an_error(encoder: BeitEncoder) -> None:
    with pytest.raises(InputError, match="device"):
        encoder.to("no-such-device")


def test_damaged_files_are_refused(encoder: BeitEncoder, tmp_path: Path) -> None:
    place = encoder.save(tmp_path / "mine")
    state = load_file(place / "weights.safetensors")
    save_file({k: v for k, v in state.items() if "fc1" not in k}, place / "weights.safetensors")
    with pytest.raises(ArtifactError, match="do not fit"):
        load_encoder(place)
    state["model.lm_head.bias"][0] = float("nan")
    save_file(state, place / "weights.safetensors")
    with pytest.raises(ArtifactError, match="NaN"):
        load_encoder(place)
    (place / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="damaged"):
        load_encoder(place)
    (place / "weights.safetensors").unlink()
    with pytest.raises(MissingError, match="parameters"):
        load_encoder(place)


def test_a_newer_format_is_refused(encoder: BeitEncoder, tmp_path: Path) -> None:
    place = encoder.save(tmp_path / "mine")
    record = json.loads((place / "encoder.json").read_text())
    (place / "encoder.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(ArtifactError, match="upgrade"):
        load_encoder(place)


def test_a_damaged_description_is_refused(encoder: BeitEncoder, tmp_path: Path) -> None:
    place = encoder.save(tmp_path / "mine")
    (place / "encoder.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        load_encoder(place)


def test_a_foreign_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ArtifactError, match="bert"):
        load_encoder(tmp_path)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(MissingError, match="no encoder 'biet'"):
        load_encoder("biet")


def test_a_kind_can_be_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.ENCODERS, "_own", dict(registry.ENCODERS._own))
    registry.register("mine", "mlsim.repr.beit.beit_encoder:BeitEncoder")
    assert registry.encoder_type("mine") is BeitEncoder
    with pytest.raises(InputError, match="taken"):
        registry.register("mine", "other:Class")
    with pytest.raises(InputError, match="unknown encoder kind"):
        registry.encoder_type("nothing")


@pytest.mark.parametrize("entry", shipped_encoders.available(), ids=lambda entry: entry.name)
def test_every_shipped_encoder_loads_is_small_and_has_a_card(entry: shipped_encoders.Shipped) -> None:
    assert load_encoder(entry.name).kind == entry.kind
    assert sum(p.stat().st_size for p in entry.directory.iterdir()) < 5e6
    assert {"summary", "command", "data", "scores"} <= entry.card.keys()
