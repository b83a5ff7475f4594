"""A network with a rule encoder and a data encoder, mixed by a strength alpha that is an input.

    h   = shared(x)
    z   = [alpha z_r(h), (1 - alpha) z_d(h)]        coupling "concat"
    z   = alpha z_r(h) + (1 - alpha) z_d(h)          coupling "add"
    y   = head(z)                                    output "plain"
    y   = x + s head(z)                              output "residual": the first O inputs are moved

At alpha = 0 the rule encoder and at alpha = 1 the data encoder is cut off, gradient and all; values between, below and
above are allowed when the network is used. Inputs are standardised, outputs scaled back, by numbers of the training
data.

Why a residual head: a propagator predicts a small change of a state. A fresh plain head predicts states near zero,
whose energy is low, so that a rule such as "energy does not grow" seems to hold before training, and the balance
between rule and task that is taken from the first losses becomes worthless (see :mod:`mlsim.repr.deepctrl.balance`). A
fresh residual head predicts "no change", which is fair to both.

Symbols: alpha ``alpha``, z_r ``rule_encoder``, z_d ``data_encoder``, s ``y_scale``.

Reference: Seo et al., NeurIPS 2021 (arXiv:2106.07804), section 3 and figure 2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError, SettingsError
from mlsim.files import write_bytes, write_text
from mlsim.repr.encoder import fill
from mlsim.settings import Settings

CONFIG = "network.json"
WEIGHTS = "weights.safetensors"


class NetworkSettings(Settings):
    """Shape of a network.

    Attributes
    ----------
    inputs, outputs : int
        D and O.
    shared, encoder, head : tuple of int
        Widths of the dense layers before the encoders, in both encoders, and before the output; ReLU stands between the
        layers of a part, and what a part hands on is linear.
    coupling : "concat" or "add"
    output : "plain" or "residual"
    encoders : "two" or "one"
        ``one`` has the data encoder alone and ignores alpha: the baselines.
    """

    inputs: int = Field(ge=1)
    outputs: int = Field(ge=1)
    shared: tuple[int, ...] = (64, 16)
    encoder: tuple[int, ...] = (64, 64, 64)
    head: tuple[int, ...] = (64,)
    coupling: Literal["concat", "add"] = "concat"
    output: Literal["plain", "residual"] = "plain"
    encoders: Literal["two", "one"] = "two"


class RuleControlled(nn.Module):
    """Predictions whose obedience to a rule is dialled: ``network(x, alpha)``.

    Parameters
    ----------
    settings : NetworkSettings
    generator : torch.Generator
        Source of the initial weights.

    Raises
    ------
    InputError
        If a residual head has more outputs than the network has inputs.
    """

    x_mean: Tensor
    x_scale: Tensor
    y_mean: Tensor
    y_scale: Tensor

    def __init__(self, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        if settings.output == "residual" and settings.outputs > settings.inputs:
            raise InputError(
                f"residual output: expected at most {settings.inputs} outputs, one per input, got {settings.outputs}"
            )
        self.settings = settings
        self.shared, width = _layers(settings.inputs, settings.shared, generator)
        self.data_encoder, coded = _layers(width, settings.encoder, generator)
        two = settings.encoders == "two"
        self.rule_encoder = _layers(width, settings.encoder, generator)[0] if two else None
        joined = 2 * coded if two and settings.coupling == "concat" else coded
        self.head = _layers(joined, (*settings.head, settings.outputs), generator)[0]
        for name, size in (("x", settings.inputs), ("y", settings.outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def standardise(self, x: Tensor, y: Tensor) -> None:
        """Take mean and scale from training data x [n, D] and y [n, O]; constant columns keep the scale 1."""
        target = y - x[:, : y.shape[1]] if self.settings.output == "residual" else y
        for name, values in (("x", x), ("y", target)):
            scale = values.std(0)
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            getattr(self, f"{name}_scale").copy_(torch.where(scale > 1e-8, scale, torch.ones_like(scale)))

    def forward(self, x: Tensor, alpha: float | Tensor) -> Tensor:
        """Predictions [B, O] of inputs [B, D] at rule strength ``alpha``, a number or one per row [B]."""
        hidden = self.shared((x - self.x_mean) / self.x_scale)
        z = self.data_encoder(hidden)
        if self.rule_encoder is not None:
            strength = torch.as_tensor(alpha, dtype=x.dtype, device=x.device)
            strength = strength.unsqueeze(-1) if strength.ndim else strength
            rule, data = strength * self.rule_encoder(hidden), (1.0 - strength) * z
            z = torch.cat([rule, data], dim=-1) if self.settings.coupling == "concat" else rule + data
        change: Tensor = self.head(z) * self.y_scale
        if self.settings.output == "residual":
            # no mean here: a fresh network must predict "no change"
            return x[:, : self.settings.outputs] + change
        return change + self.y_mean

    def save(self, directory: Path) -> None:
        """Write ``network.json`` and ``weights.safetensors``, each whole or not at all."""
        state = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
        write_bytes(directory / WEIGHTS, save(state))
        write_text(directory / CONFIG, json.dumps(self.settings.model_dump(mode="json"), indent=1) + "\n")


def load(directory: Path) -> RuleControlled:
    """Read a network written by :meth:`RuleControlled.save`.

    Raises
    ------
    MissingError
        If a file is not there.
    ArtifactError
        If the files are damaged or do not belong together.
    """
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise MissingError(f"{directory / name}: no such file; expected the directory of a saved network")
    try:
        settings = NetworkSettings.parse(
            json.loads(limits.text(directory / CONFIG, limits.SETTINGS)), str(directory / CONFIG)
        )
        state = load_file(directory / WEIGHTS)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, SettingsError):
            raise
        raise ArtifactError(f"{directory}: damaged: {error}; train the network again") from None
    network = RuleControlled(settings, torch.Generator().manual_seed(0))
    fill(network, state, str(directory))
    return network


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A dense layer with torch's usual initial weights, drawn from ``generator``."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-(n_in**-0.5), n_in**-0.5, generator=generator)
    return layer


def _layers(width: int, hidden: tuple[int, ...], generator: torch.Generator) -> tuple[nn.Sequential, int]:
    """Dense layers with ReLU between them, and the width that comes out; the identity without any."""
    layers = nn.Sequential()
    for k, size in enumerate(hidden):
        if k:
            layers.append(nn.ReLU())
        layers.append(_linear(width, size, generator))
        width = size
    return layers, width
