"""Released BEiT weights against published numbers: run when ``MLSIM_WEIGHTS`` names a folder that holds them.

beit-base-patch16-224/              hub layout of microsoft/beit-base-patch16-224
beit-large-patch16-512/             ... microsoft/beit-large-patch16-512
beit-base-patch16-224-pt22k/        ... microsoft/beit-base-patch16-224-pt22k
beit_base_patch16_224_pt22k.pth     file of the original repository
000000039769.jpg                    the picture of two cats (COCO validation) that the numbers are for
flava-image-codebook/               hub layout of facebook/flava-image-codebook
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.visual_tokenizer import DalleCodebook

FOLDER = os.environ.get("MLSIM_WEIGHTS", "")
CATS = "000000039769.jpg"
#: first logits and, where known, class of the picture, from the conversion script of the hub's checkpoints
EXPECTED = {
    "beit-base-patch16-224": ((-1.2385, -1.0987, -1.0108), 281),
    "beit-large-patch16-512": ((-0.3062, 0.7261, 0.4852), None),
}


def weights(name: str) -> Path:
    """Place of released weights, or a loud skip."""
    if not FOLDER:
        pytest.skip(f"LOUD SKIP: MLSIM_WEIGHTS is not set, {name} is NOT checked against released weights")
    path = Path(FOLDER) / name
    if not path.exists():
        pytest.skip(f"LOUD SKIP: {path} is not there, {name} is NOT checked against released weights")
    return path


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_logits_of_the_cats_are_the_published_ones(name: str) -> None:
    from PIL import Image
    from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil

    place, picture = weights(name), weights(CATS)
    encoder = BeitEncoder.from_pretrained(place)
    pixels = BeitImageProcessorPil.from_pretrained(place)(Image.open(picture), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = encoder.model(pixels).logits[0]
    first, label = EXPECTED[name]
    np.testing.assert_allclose(logits[:3].numpy(), first, atol=1e-2)
    assert label is None or int(logits.argmax()) == label


def test_a_pretrained_release_keeps_its_trained_norm() -> None:
    encoder = BeitEncoder.from_pretrained(weights("beit-base-patch16-224-pt22k"))
    norm = encoder.norm.weight
    assert float((norm - 1.0).abs().max()) > 0.05
    assert encoder.encode(np.full((1, 3, 224, 224), 0.5)).shape == (1, 768)


def test_the_original_file_and_the_hub_give_the_same_features() -> None:
    hub = BeitEncoder.from_pretrained(weights("beit-base-patch16-224-pt22k"))
    original = BeitEncoder.from_pretrained(weights("beit_base_patch16_224_pt22k.pth"))
    images = np.random.default_rng(0).random((2, 3, 224, 224)).astype(np.float32)
    np.testing.assert_allclose(hub.encode(images), original.encode(images), atol=1e-2)


def test_the_released_codebook_gives_14_by_14_words() -> None:
    tokenizer = DalleCodebook.from_pretrained(weights("flava-image-codebook"), patch=16)
    codes = tokenizer.codes(torch.rand(1, 3, 224, 224))
    assert codes.shape == (1, 196)
    assert tokenizer.words == 8192
