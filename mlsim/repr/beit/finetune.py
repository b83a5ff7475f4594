"""Fine-tuning: a class head on a pre-trained BEiT, all layers trained, lower ones slower.

    learning rate of layer l (0 = embeddings, L + 1 = head)    lr_l = lr * decay^(L + 1 - l)

The head is one linear layer on the normalised mean of the patch tokens, drawn small. The position bias that
pre-training shared becomes one copy per block, as in the paper. AdamW, weight decay 0.05, warm-up and cosine decay.

Why an own loop and no library trainer: the layer-wise decay and the change of the position bias are the method.
Reference: Bao et al., ICLR 2022, section 2.6 and table 13.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from transformers import BeitForImageClassification, BeitForMaskedImageModeling

from mlsim.errors import InputError
from mlsim.fitting import steps
from mlsim.fitting.steps import Plan, Trained
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.encoder import Progress
from mlsim.settings import Settings

_HEAD_WIDTH = 0.02


class FineTuneSettings(Settings):
    """Optimiser of fine-tuning."""

    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0.0)
    layer_decay: float = Field(default=0.65, gt=0.0, le=1.0)
    warmup: int = Field(default=30, ge=0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    clip: float = Field(default=3.0, gt=0.0)


def fine_tune(
    encoder: BeitEncoder,
    images: NDArray[Any],
    labels: NDArray[Any],
    settings: FineTuneSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> BeitEncoder:
    """A classifier that starts from ``encoder``, which stays as it is.

    Parameters
    ----------
    encoder : BeitEncoder
        Pre-trained, or fresh for the comparison from scratch.
    images : array [n, s, s] or [n, c, s, s]
    labels : int array [n]
        Classes 0 .. C-1.
    settings : FineTuneSettings
    seed : int
        Of the head, the batches and stochastic depth.

    Returns
    -------
    BeitEncoder
        With a class head; :func:`classify` uses it, ``encode`` too.

    Raises
    ------
    InputError
        If labels do not fit the images, or are no classes.
    """
    checked = torch.from_numpy(encoder.require(images))
    wanted = np.asarray(labels)
    if wanted.shape != (len(checked),) or wanted.dtype.kind not in "iu" or wanted.min() < 0:
        raise InputError(f"labels: expected {len(checked)} classes 0, 1, ..., got {wanted.dtype} {list(wanted.shape)}")
    classes = torch.from_numpy(wanted.astype(np.int64))
    model = _with_head(encoder, int(wanted.max()) + 1, seed)
    optimizer = torch.optim.AdamW(_groups(model, settings), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    result = BeitEncoder(model, encoder.mean, encoder.std, None, encoder.inputs)

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(checked), (settings.batch,), generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((seed * 1_000_003 + step) % 2**63)  # stochastic depth draws from the global generator
            return nn.functional.cross_entropy(model(result.pixels(checked[rows])).logits, classes[rows])

    def rate(step: int, group: dict[str, Any]) -> float:
        return float(settings.learning_rate * _factor(step, settings) * group["scale"])

    plan = Plan(settings.steps, rate, settings.clip)
    steps.run(Trained(model, optimizer), loss, plan, progress=progress)
    return result


@torch.no_grad()
def classify(encoder: BeitEncoder, images: NDArray[Any], batch_size: int = 256) -> NDArray[np.float64]:
    """Class probabilities [n, C] of a fine-tuned or released classifier.

    Raises
    ------
    InputError
        If the encoder has no class head.
    """
    if not isinstance(encoder.model, BeitForImageClassification):
        raise InputError("classify: expected an encoder with a class head; make one with fine_tune")
    checked = torch.from_numpy(encoder.require(images))
    parts = [encoder.model(encoder.pixels(part)).logits.double().softmax(-1) for part in checked.split(batch_size)]
    return torch.cat(parts).cpu().numpy()


def _with_head(encoder: BeitEncoder, classes: int, seed: int) -> BeitForImageClassification:
    """The network of ``encoder`` below a fresh head, shared position bias copied into every block."""
    config = copy.deepcopy(encoder.model.config)
    shared = config.use_shared_relative_position_bias
    config.num_labels = classes
    config.use_mask_token = False
    if shared:
        config.use_shared_relative_position_bias, config.use_relative_position_bias = False, True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = BeitForImageClassification(config)
        nn.init.trunc_normal_(model.classifier.weight, std=_HEAD_WIDTH)
    state = dict(encoder.model.beit.state_dict())
    state.pop("embeddings.mask_token", None)
    table = state.pop("shared_position_bias.relative_position_bias_table", None)
    names = model.beit.state_dict().keys()
    if table is not None:
        state |= {name: table.clone() for name in names if name.endswith("relative_position_bias_table")}
    if isinstance(encoder.model, BeitForMaskedImageModeling):  # the pooler's norm is new, as in the paper
        state |= {name: value for name, value in model.beit.state_dict().items() if name.startswith("pooler.")}
    model.beit.load_state_dict(state)
    return model


def _groups(model: BeitForImageClassification, settings: FineTuneSettings) -> list[dict[str, Any]]:
    """One group per layer and kind of parameter, with its learning rate relative to the head's."""
    depth = model.config.num_hidden_layers + 1
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("beit.embeddings"):
            layer = 0
        elif name.startswith("beit.layers."):
            layer = int(name.split(".")[2]) + 1
        else:
            layer = depth
        decays = parameter.ndim > 1 and "token" not in name and "position_bias" not in name
        found.setdefault((layer, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "scale": settings.layer_decay ** (depth - layer),
        }
        for (layer, decays), parameters in found.items()
    ]


def _factor(step: int, settings: FineTuneSettings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - settings.warmup) / max(1, settings.steps - settings.warmup)))
