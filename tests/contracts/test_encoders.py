"""Every encoder keeps the contract of encoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="LOUD SKIP: mlsim[repr] is not installed")
import torch

from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.beit_network import NetworkSettings as BeitSettings
from mlsim.repr.beit.beit_network import masked_model
from mlsim.repr.beit.visual_tokenizer import PatchKMeans
from mlsim.repr.encoder import Encoder, InputSettings
from mlsim.repr.hsic.hsic_encoder import HsicEncoder
from mlsim.repr.hsic.networks import NetworkSettings, network
from mlsim.repr.quip.biencoder import BiEncoder, Shape
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.tokenizer import train_tokenizer
from mlsim.seeds import torch_stream
from mlsim.testing import EncoderContract


def images(count: int) -> np.ndarray:
    """Noise [count, 8, 8] in [0, 1]."""
    return np.random.default_rng(0).random((count, 8, 8)).astype(np.float32)


def sentences(count: int) -> list[str]:
    """Texts of different lengths."""
    return [f"{word} binds " + "very " * n + "well." for n, word in enumerate(("Zilmor", "Tapnes", "Salt") * 9)][:count]


class TestBeit(EncoderContract):
    @classmethod
    def build(cls) -> Encoder:
        network = BeitSettings(size=8, patch=2, hidden=16, layers=2, heads=2, feedforward=32)
        tokenizer = PatchKMeans.fit(torch.from_numpy(images(7))[:, None], words=6, patch=2, seed=0)
        inputs = InputSettings(kind="extension-map", size=8)
        return BeitEncoder(masked_model(network, 6, seed=1), (0.4,), (0.3,), tokenizer, inputs)

    @classmethod
    def inputs(cls, count: int) -> Any:
        return images(count)


class TestHsicOfImages(EncoderContract):
    shape = NetworkSettings(kind="cnn", shape=(1, 8, 8), width=12, depth=2)

    @classmethod
    def build(cls) -> Encoder:
        return HsicEncoder(network(cls.shape, torch_stream(1, "contract")), cls.shape)

    @classmethod
    def inputs(cls, count: int) -> Any:
        return images(count)


class TestHsicOfVectors(TestHsicOfImages):
    shape = NetworkSettings(kind="mlp", shape=(5,), width=12, depth=2)

    @classmethod
    def inputs(cls, count: int) -> Any:
        return np.random.default_rng(1).normal(size=(count, 5))


class TestQuip(EncoderContract):
    @classmethod
    def build(cls) -> Encoder:
        shape = Shape(vocabulary=300, width=16, layers=2, attention_heads=2, feed_forward=32, positions=64)
        return QuipEncoder(BiEncoder.fresh(shape.roberta(), seed=3, inner=24), train_tokenizer(sentences(27), 300))

    @classmethod
    def inputs(cls, count: int) -> Any:
        return sentences(count)
