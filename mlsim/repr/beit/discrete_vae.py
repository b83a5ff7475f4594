"""A small discrete variational autoencoder: the visual tokenizer of BEiT's first stage, trained here.

An encoder gives logits over K words for every patch, a decoder paints the image from the words' embeddings:

    logits l = f(x),   y = softmax((l + g) / tau),  g ~ Gumbel(0, 1),   x' = d(y E)
    loss     = mean |x - x'|^2 + beta mean_patches KL(softmax(l) || uniform)

tau falls geometrically from 1 to ``last_temperature``; beta is small, because a strong KL at small size collapses the
vocabulary. The word of a patch is argmax l.

Symbols: K -> ``words``, tau -> ``temperature``, E -> ``embedding``, beta -> ``kl_weight``.
Reference: Ramesh et al., "Zero-shot text-to-image generation", ICML 2021, section 2.1; Jang et al., ICLR 2017.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.repr.beit.visual_tokenizer import Tokenizer
from mlsim.repr.encoder import Progress
from mlsim.settings import Settings


class DiscreteVaeSettings(Settings):
    """Size and training of a discrete VAE."""

    channels: int = Field(default=1, ge=1)
    patch: int = Field(default=4, ge=1)
    words: int = Field(default=128, ge=2)
    width: int = Field(default=64, ge=4)
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0.0)
    last_temperature: float = Field(default=1.0 / 16.0, gt=0.0, le=1.0)
    kl_weight: float = Field(default=1e-4, ge=0.0)


class DiscreteVae(Tokenizer):
    """Encoder and decoder around a categorical bottleneck of one word per patch."""

    kind = "dvae"

    def __init__(self, settings: DiscreteVaeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.words, self.patch = settings.words, settings.patch
        width = settings.width
        self.encode = nn.Sequential(
            nn.Conv2d(settings.channels, width, settings.patch, stride=settings.patch),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, settings.words, 1),
        )
        self.embedding = nn.Conv2d(settings.words, width, 1, bias=False)
        self.decode = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, settings.channels, settings.patch, stride=settings.patch),
        )

    @property
    def config(self) -> dict[str, Any]:
        """Kind and settings."""
        return {"kind": self.kind, "settings": self.settings.model_dump(mode="json")}

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Most probable word of every patch."""
        return self.encode(images).argmax(1).flatten(1)

    @torch.no_grad()
    def paint(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Images [n, c, h, w] that the decoder makes of words [n, patches]."""
        words = nn.functional.one_hot(codes, self.words).to(torch.float32)
        return self.decode(self.embedding(words.transpose(1, 2).reshape(len(codes), self.words, *grid)))


def train_discrete_vae(
    images: Tensor, settings: DiscreteVaeSettings, *, seed: int, progress: Progress | None = None
) -> DiscreteVae:
    """Train a discrete VAE.

    Parameters
    ----------
    images : Tensor [n, c, h, w] in [0, 1]
        Sides divisible by the patch.
    settings : DiscreteVaeSettings
    seed : int
        Of the initial parameters, the batches and the Gumbel noise; the global generator is left as it was.
    progress : callable, optional
        ``progress(step, steps)``.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DiscreteVae(settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    for step in range(settings.steps):
        done = step / settings.steps
        temperature = settings.last_temperature**done
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
        x = images[torch.randint(len(images), (settings.batch,), generator=generator)]
        logits = model.encode(x)
        noise = torch.rand(logits.shape, generator=generator).clamp(1e-9, 1.0 - 1e-7)
        soft = ((logits - torch.log(-torch.log(noise))) / temperature).softmax(1)
        log_p = logits.log_softmax(1)
        divergence = (log_p.exp() * (log_p + math.log(settings.words))).sum(1).mean()
        loss = ((model.decode(model.embedding(soft)) - x) ** 2).mean() + settings.kl_weight * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress(step + 1, settings.steps)
    return model.eval()
