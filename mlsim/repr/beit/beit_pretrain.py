"""Pre-training: hide 40 % of the patches, predict what they were.

    M   = masks of the batch (blockwise)
    h   = BEiT(x with patches in M replaced by the mask embedding)
    L   = loss of the target over the patches in M          (words: cross entropy, pixels: squared error)

AdamW, betas (0.9, 0.999), weight decay 0.05 on matrices only, gradient norm clipped at 3, linear warm-up, cosine decay:
the recipe of the paper with sizes for one core. With ``checkpoint`` the state is written every ``every`` steps, and a
call with the same arguments goes on from there; an interrupted and continued training equals an uninterrupted one.

Reference: Bao et al., ICLR 2022, section 2.4, table 12.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mlsim.errors import InputError
from mlsim.fitting import steps
from mlsim.fitting.steps import Kept, Plan, Trained
from mlsim.repr.beit import masking
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.beit_network import NetworkSettings, masked_model
from mlsim.repr.beit.masking import Masking
from mlsim.repr.beit.patch_target import Target, Words
from mlsim.repr.encoder import InputSettings, Progress
from mlsim.settings import Settings


class PretrainSettings(Settings):
    """Masks and optimiser of pre-training."""

    steps: int = Field(default=1200, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1.5e-3, gt=0.0)
    last_learning_rate: float = Field(default=1e-5, ge=0.0)
    warmup: int = Field(default=60, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(default=0.05, ge=0.0)
    clip: float = Field(default=3.0, gt=0.0)
    masking: Masking = "blockwise"
    masked_fraction: float = Field(default=0.4, gt=0.0, lt=1.0)
    min_block: int = Field(default=2, ge=1, description="smallest block, patches (16 on the paper's 14 x 14 grid)")
    every: int = Field(default=200, ge=1, description="steps between checkpoints")


def pretrain(
    images: NDArray[Any],
    target: Target,
    network: NetworkSettings,
    settings: PretrainSettings,
    *,
    seed: int,
    inputs: InputSettings | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> BeitEncoder:
    """Pre-train a fresh BEiT.

    Parameters
    ----------
    images : float array [n, s, s] or [n, c, s, s] in [0, 1]
    target : Target
        ``Words(tokenizer)`` or ``Pixels(images, patch)``.
    network : NetworkSettings
    settings : PretrainSettings
    seed : int
        Of parameters, batches and masks.
    inputs : InputSettings, optional
        How the images were made, kept with the encoder.
    checkpoint : Path, optional
        File of the training state.
    progress : callable, optional
        ``progress(step, steps)``.

    Returns
    -------
    BeitEncoder

    Raises
    ------
    InputError
        If the images do not fit the network.
    CheckpointError
        If the checkpoint belongs to other arguments.
    UnphysicalError
        If the loss is no longer finite.
    """
    pixels, mean, std = _training_pixels(images, network)
    encoder = BeitEncoder(
        masked_model(network, target.width, seed=seed), mean, std, target.tokenizer, inputs or InputSettings()
    )
    wanted = target.prepare(pixels)
    model, draws = encoder.model, _Draws(np.random.default_rng(seed))
    count = max(1, round(settings.masked_fraction * network.grid[0] * network.grid[1]))

    def loss(step: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((seed * 1_000_003 + step) % 2**63)  # stochastic depth draws from the global generator
            chosen = torch.from_numpy(draws.rng.integers(0, len(pixels), settings.batch))
            hidden = torch.from_numpy(
                masking.draw(settings.masking, network.grid, count, settings.batch, draws.rng, settings.min_block)
            )
            output = model(encoder.pixels(pixels[chosen]), bool_masked_pos=hidden).logits
            return target.loss(output[hidden], wanted[chosen][hidden])

    optimizer = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.999))
    identity = f"{network.digest()}-{settings.digest()}-{seed}-{target.width}-{float(pixels.double().sum()):.10g}"
    kept = None if checkpoint is None else Kept(checkpoint, identity, settings.every, draws)
    plan = Plan(settings.steps, lambda step, _: learning_rate(step, settings), settings.clip)
    steps.run(Trained(model, optimizer), loss, plan, kept, progress)
    return encoder


def learning_rate(step: int, settings: PretrainSettings) -> float:
    """Linear warm-up, then a cosine from the highest to the last rate."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    part = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    span = settings.learning_rate - settings.last_learning_rate
    return settings.last_learning_rate + 0.5 * span * (1.0 + math.cos(math.pi * part))


def masked_accuracy(
    encoder: BeitEncoder, images: NDArray[Any], settings: PretrainSettings, *, seed: int
) -> tuple[float, float]:
    """Accuracy on masked words of ``images``, and that of always saying the most frequent word among them.

    Parameters
    ----------
    encoder : BeitEncoder
        Pre-trained on words.
    images : array [n, s, s] or [n, c, s, s]
        Held out.
    settings : PretrainSettings
        Whose masks are drawn.
    seed : int
        Of the masks.

    Raises
    ------
    InputError
        If the encoder has no tokenizer.
    """
    if encoder.tokenizer is None:
        raise InputError("masked accuracy: expected an encoder with a tokenizer (pre-trained on words)")
    checked = torch.from_numpy(encoder.require(images))
    codes = Words(encoder.tokenizer).prepare(checked)
    count = max(1, round(settings.masked_fraction * codes.shape[1]))
    rng = np.random.default_rng(seed)
    hidden = torch.from_numpy(masking.draw(settings.masking, encoder.grid, count, len(codes), rng, settings.min_block))
    said = []
    with torch.no_grad():
        for start in range(0, len(codes), 256):
            part = slice(start, start + 256)
            said.append(encoder.model(encoder.pixels(checked[part]), bool_masked_pos=hidden[part]).logits.argmax(-1))
    right = (torch.cat(said) == codes)[hidden].double().mean()
    most = np.bincount(codes[hidden].numpy()).max() / int(hidden.sum())
    return float(right), float(most)


def _training_pixels(
    images: NDArray[Any], network: NetworkSettings
) -> tuple[Tensor, tuple[float, ...], tuple[float, ...]]:
    values = np.asarray(images)
    if values.ndim == 3:
        values = values[:, None]
    side = network.size
    if values.ndim != 4 or values.shape[1:] != (network.channels, side, side) or len(values) == 0:
        raise InputError(
            f"images: expected [n, {network.channels}, {side}, {side}] as the network has it, got {list(values.shape)}"
        )
    if values.dtype == np.uint8:
        values = values / 255.0
    if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1.001:
        raise InputError("images: expected finite pixels in [0, 1] (or uint8); scale them first")
    pixels = torch.from_numpy(values.astype(np.float32))
    mean = tuple(float(m) for m in pixels.mean((0, 2, 3)))
    std = tuple(max(1e-3, float(s)) for s in pixels.std((0, 2, 3)))
    return pixels, mean, std


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices, none on vectors, tokens and position tables."""
    named = list(model.named_parameters())
    free = [p for n, p in named if p.ndim < 2 or "token" in n or "position_bias" in n]
    names = {id(p) for p in free}
    return [
        {"params": [p for _, p in named if id(p) not in names], "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


class _Draws:
    """The generator of batches and masks, which a checkpoint remembers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def remembered(self) -> dict[str, str]:
        """State of the generator, as JSON."""
        return {"rng": json.dumps(self.rng.bit_generator.state)}

    def recall(self, remembered: dict[str, str]) -> None:
        """Set the state of the generator."""
        self.rng.bit_generator.state = json.loads(remembered["rng"])
