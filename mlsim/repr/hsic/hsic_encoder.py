"""HsicEncoder: a small network trained by SSL-HSIC (or InfoNCE, BYOL), as an encoder of kind ``hsic``.

    vectors [n, d]          hidden.1, ..., features, and with slow axes: slow
    images [n, c, s, s]     conv.1, ..., features            (also [n, s, s] for one channel)

``slow`` are the features on the unit sphere, rotated and scaled by ``slow_axes``: the first column is the slowest. An
encoder made by :class:`~mlsim.repr.hsic.time_lagged.TimeLaggedHSIC` has it, one trained on images does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mlsim.errors import ArtifactError, InputError
from mlsim.repr.encoder import Encoder, InputSettings, fill
from mlsim.repr.hsic.networks import Network, NetworkSettings, network
from mlsim.repr.hsic.slow_axes import SlowAxes
from mlsim.seeds import torch_stream
from mlsim.settings import Settings
from mlsim.shapes import require_shape

_AXES = ("slow.mean", "slow.axes", "slow.eigenvalues")


class HsicConfig(Settings):
    """What ``encoder.json`` holds; ``lag`` zero means: no slow axes."""

    network: NetworkSettings
    lag: int = 0
    slow: int = 0


class HsicEncoder(Encoder):
    """Features of a small self-supervised network.

    Parameters
    ----------
    backbone : Network
    settings : NetworkSettings
        Of the backbone.
    axes : SlowAxes, optional
        Of the unit-length features.
    """

    kind: ClassVar[str] = "hsic"

    def __init__(self, backbone: Network, settings: NetworkSettings, axes: SlowAxes | None = None) -> None:
        self.backbone = backbone.eval()
        self.settings = settings
        self.axes = axes
        self.inputs = InputSettings()
        self._rotation = (
            None
            if axes is None
            else tuple(torch.tensor(np.ascontiguousarray(a), dtype=torch.float64) for a in (axes.mean, axes.axes))
        )
        self.to("cpu")

    @property
    def config(self) -> dict[str, Any]:
        slow = (self.axes.lag, self.axes.axes.shape[1]) if self.axes else (0, 0)
        return HsicConfig(network=self.settings, lag=slow[0], slow=slow[1]).model_dump(mode="json")

    def state(self) -> dict[str, Tensor]:
        found = dict(self.backbone.state_dict())
        if self.axes is not None:
            values = (self.axes.mean, self.axes.axes, self.axes.eigenvalues)
            found |= {name: torch.tensor(np.ascontiguousarray(a)) for name, a in zip(_AXES, values, strict=True)}
        return found

    @classmethod
    def build(cls, config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> HsicEncoder:
        parsed = HsicConfig.parse(dict(config), "hsic encoder")
        backbone = network(parsed.network, torch_stream(0, "hsic.backbone"))
        axes = None
        if state is not None:
            own = {name: tensor for name, tensor in state.items() if name not in _AXES}
            fill(backbone, own, "hsic encoder")
            axes = _axes(parsed, state, backbone.width)
        return cls(backbone, parsed.network, axes)

    @property
    def layers(self) -> tuple[str, ...]:
        return self.backbone.layers if self.axes is None else (*self.backbone.layers, "slow")

    @property
    def pools(self) -> tuple[str, ...]:
        return ("mean",) if self.settings.kind == "mlp" else ("mean", "flatten")

    @property
    def dimension(self) -> int:
        return self.backbone.width if self.axes is None else int(self.axes.axes.shape[1])

    def require(self, inputs: Any) -> NDArray[Any]:
        shape = self.settings.shape
        values = np.asarray(inputs)
        if len(shape) == 3 and shape[0] == 1 and values.ndim == 3:
            values = values[:, None]
        return require_shape(values, (None, *shape), f"inputs of the {self.kind} encoder")

    def encode_batch(self, inputs: Any, layer: str, pool: str) -> Tensor:
        x = torch.as_tensor(np.ascontiguousarray(inputs), dtype=torch.float32, device=self.device)
        found = self.backbone.activations(x)
        if layer == "slow":
            if self._rotation is None:
                raise InputError("layer 'slow': this encoder has no slow axes; train it with TimeLaggedHSIC")
            mean, axes = self._rotation
            unit = functional.normalize(found["features"], dim=-1).to("cpu", torch.float64)
            return (unit - mean) @ axes
        chosen = found[layer]
        if chosen.ndim == 4:
            return chosen.flatten(1) if pool == "flatten" else chosen.mean((2, 3))
        return chosen

    def move(self, device: torch.device) -> None:
        self.backbone.to(device)


def _axes(config: HsicConfig, state: Mapping[str, Tensor], width: int) -> SlowAxes | None:
    """Slow axes from a saved state, checked against the configuration."""
    if not config.lag:
        return None
    missing = [name for name in _AXES if name not in state]
    if missing:
        raise ArtifactError(f"hsic encoder: {', '.join(missing)} missing in the weights; save the encoder again")
    mean, axes, eigenvalues = (state[name].cpu().numpy() for name in _AXES)
    if (mean.shape, axes.shape, eigenvalues.shape) != ((width,), (width, config.slow), (config.slow,)):
        raise ArtifactError("hsic encoder: slow axes do not fit the configuration; save the encoder again")
    return SlowAxes(mean, axes, eigenvalues, config.lag)
