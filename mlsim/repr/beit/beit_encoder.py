"""``BeitEncoder``: features of square images from a BEiT network, fresh or released.

    tokens h^0 (patch embeddings, class token first) -> blocks 1..L -> h^L -> final norm
    encode(layer, pool):   mean = mean of the patch tokens,  cls = class token,  cls+mean = both, one after the other,
                           grid = all patch tokens, row by row: keeps the places, d times as many features

Which norm is final depends on what the network was trained for, and transformers keeps it in three places: a
pre-trained one (``pt22k``) has it beside the network, on the class for masked images; a fine-tuned one normalises the
*mean* of the patches inside its pooler; older ones have it in the network. Loading a pre-trained checkpoint into
``BeitModel`` drops the trained norm and invents a fresh one, so this class always keeps the whole model.

``from_pretrained`` reads: a directory of ``save``; a shipped name; a directory or hub name in transformers' layout,
legacy parameter names included; a ``.pth`` file of the original repository.

Images must be square: transformers scrambles the relative position bias of rectangular ones (``images.square`` pads).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BeitConfig, BeitForImageClassification, BeitForMaskedImageModeling

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.repr.beit.tokenizer_kinds import build_tokenizer
from mlsim.repr.beit.unilm import Model, load_unilm
from mlsim.repr.beit.visual_tokenizer import Tokenizer
from mlsim.repr.encoder import CONFIG, Encoder, InputSettings, fill

_HEADS: dict[str, Any] = {"words": BeitForMaskedImageModeling, "classes": BeitForImageClassification}
_MODEL, _TOKENIZER = "model.", "tokenizer."


class BeitEncoder(Encoder):
    """A BEiT network with its pixel scale and, if it was pre-trained here, its tokenizer.

    Parameters
    ----------
    model : BeitForMaskedImageModeling or BeitForImageClassification
    mean, std : tuple of float, one per channel
        Pixels x in [0, 1] enter the network as (x - mean) / std.
    tokenizer : Tokenizer, optional
        Needed by :func:`mlsim.repr.beit.information_maps.surprise_map` only.
    inputs : InputSettings
        How the images are made from a trajectory.
    """

    kind = "beit"

    def __init__(
        self,
        model: Model,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        tokenizer: Tokenizer | None = None,
        inputs: InputSettings | None = None,
    ) -> None:
        channels = model.config.num_channels
        if len(mean) != channels or len(std) != channels or min(std) <= 0.0:
            raise InputError(f"pixel scale: expected {channels} means and positive widths, got {mean} and {std}")
        self.model = model.eval()
        self.mean, self.std = mean, std
        self.tokenizer = tokenizer
        self.inputs = inputs or InputSettings()
        self.device = torch.device("cpu")

    # ---- contract ----

    @property
    def config(self) -> dict[str, Any]:
        """Head, transformers' configuration, pixel scale, tokenizer."""
        head = "words" if isinstance(self.model, BeitForMaskedImageModeling) else "classes"
        return {
            "head": head,
            "beit": self.model.config.to_diff_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            "tokenizer": None if self.tokenizer is None else self.tokenizer.config,
        }

    def state(self) -> dict[str, Tensor]:
        """Parameters of the model and of the tokenizer."""
        found = {_MODEL + name: value for name, value in self.model.state_dict().items()}
        if self.tokenizer is not None:
            found |= {_TOKENIZER + name: value for name, value in self.tokenizer.state_dict().items()}
        return found

    @classmethod
    def build(cls, config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> BeitEncoder:
        """Make the encoder that ``config`` describes, with the parameters in ``state`` if given."""
        if config.get("head") not in _HEADS:
            raise ArtifactError(f"beit encoder: expected head 'words' or 'classes', got {config.get('head')!r}")
        model = _HEADS[config["head"]](BeitConfig(**config["beit"]))
        tokenizer = None if config.get("tokenizer") is None else build_tokenizer(config["tokenizer"])
        if state is not None:
            fill(model, _part(state, _MODEL), "beit encoder")
            if tokenizer is not None:
                fill(tokenizer, _part(state, _TOKENIZER), "beit tokenizer")
        return cls(model, tuple(config["mean"]), tuple(config["std"]), tokenizer)

    @property
    def layers(self) -> tuple[str, ...]:
        """``embedding``, ``block.1`` ... ``block.L``, ``norm``."""
        blocks = (f"block.{k + 1}" for k in range(self.model.config.num_hidden_layers))
        return ("embedding", *blocks, "norm")

    @property
    def pools(self) -> tuple[str, ...]:
        """``mean``, ``cls``, ``cls+mean``, ``grid``."""
        return ("mean", "cls", "cls+mean", "grid")

    @property
    def dimension(self) -> int:
        """Hidden size."""
        return int(self.model.config.hidden_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row."""
        side = self.model.config.image_size // self.model.config.patch_size
        return side, side

    def require(self, inputs: Any) -> NDArray[np.float32]:
        """Images as float32 [n, c, s, s] in [0, 1] at the side of the network.

        Accepts [n, h, w] (grey) and [n, c, h, w]; uint8 is divided by 255; grey becomes three equal channels for a
        colour network; another side is resized (bilinear, antialiased).
        """
        images = np.asarray(inputs)
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / 255.0
        if images.dtype.kind not in "fiu" or images.ndim not in (3, 4):
            raise InputError(
                f"images: expected numbers [n, h, w] or [n, c, h, w], got {images.dtype} {list(images.shape)}"
            )
        if images.ndim == 3:
            images = images[:, None]
        channels, height, width = images.shape[1:]
        if height != width:
            raise InputError(f"images: expected square ones, got {height} x {width}; pad with mlsim.repr.images.square")
        wanted = int(self.model.config.num_channels)
        if channels not in (1, wanted):
            raise InputError(f"images: expected {wanted} channels or one, got {channels}")
        if len(images) and not (np.isfinite(images).all() and images.min() >= -1e-3 and images.max() <= 1.001):
            raise InputError("images: expected finite pixels in [0, 1] (or uint8); scale them first")
        pixels = torch.as_tensor(images.astype(np.float32))
        side = int(self.model.config.image_size)
        if height != side:
            pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        return pixels.expand(-1, wanted, -1, -1).numpy()

    def encode_batch(self, inputs: Any, layer: str, pool: str) -> Tensor:
        """Pooled tokens of one layer."""
        tokens = self.tokens(self.pixels(inputs), layer if layer != "norm" else f"block.{len(self.layers) - 2}")
        if layer == "norm" and not isinstance(self.model, BeitForMaskedImageModeling) and pool == "mean":
            return self.norm(tokens[:, 1:].mean(1))  # trained on the mean
        if layer == "norm":
            tokens = self.norm(tokens)
        parts = {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1), "grid": tokens[:, 1:].flatten(1)}
        return torch.cat([parts[name] for name in pool.split("+")], dim=1)

    def move(self, device: torch.device) -> None:
        """Model and tokenizer to ``device``."""
        self.model.to(device)
        if self.tokenizer is not None:
            self.tokenizer.to(device)

    # ---- pieces that training and maps use ----

    def pixels(self, images: NDArray[np.float32] | Tensor) -> Tensor:
        """Network input of images [b, c, s, s] in [0, 1]."""
        x = torch.as_tensor(images, dtype=torch.float32, device=self.device)
        mean = torch.tensor(self.mean, device=self.device)[:, None, None]
        return (x - mean) / torch.tensor(self.std, device=self.device)[:, None, None]

    def tokens(self, pixels: Tensor, layer: str, hidden: Tensor | None = None) -> Tensor:
        """Tokens [b, 1 + patches, d] after ``embedding`` or a block; ``hidden`` masks patches, bool [b, patches]."""
        outputs = self.model.beit(pixels, bool_masked_pos=hidden, output_hidden_states=True)
        return outputs.hidden_states[self.layers.index(layer)]

    @property
    def norm(self) -> nn.Module:
        """The norm that was trained last, wherever transformers keeps it."""
        if isinstance(self.model, BeitForMaskedImageModeling):
            return self.model.layernorm
        pooler: Any = self.model.beit.pooler
        return self.model.beit.layernorm if pooler.layernorm is None else pooler.layernorm

    # ---- foreign files ----

    @classmethod
    def from_pretrained(cls, source: str | Path, *, device: str = "cpu") -> BeitEncoder:
        """Load a saved, shipped or released encoder; see the module docstring for what ``source`` may be.

        Raises
        ------
        MissingError
            If there is no such encoder.
        ArtifactError
            If files are damaged, do not belong together or hold another architecture.
        """
        path = Path(source)
        if path.suffix == ".pth":
            model = load_unilm(path)
            half = (0.5,) * model.config.num_channels
            return cls(model, half, half).to(device)
        foreign = (path / "config.json").is_file() and not (path / CONFIG).is_file()
        if foreign or (not path.exists() and str(source).count("/") == 1 and str(source)[0] not in "./~"):
            return _from_transformers(source).to(device)
        return super().from_pretrained(source, device=device)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _from_transformers(source: str | Path) -> BeitEncoder:
    """A checkpoint in transformers' layout; every parameter must come from the file."""
    try:
        config = BeitConfig.from_pretrained(source)
        names = config.architectures or ["BeitForMaskedImageModeling"]
        found = [kind for kind in _HEADS.values() if kind.__name__ in names]
        if not found:
            raise ArtifactError(f"{source}: expected a BEiT for masked images or for classification, got {names[0]}")
        if found[0] is BeitForMaskedImageModeling:
            config.use_mask_token = True
        model, info = found[0].from_pretrained(source, config=config, output_loading_info=True)
    except OSError as error:
        raise MissingError(f"no BEiT at '{source}': {' '.join(str(error).split())[:200]}") from None
    lost = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if lost:
        raise ArtifactError(f"{source}: the file lacks parameters of {found[0].__name__}: {', '.join(lost[:5])}")
    mean, std = _pixel_scale(source, config.num_channels)
    return BeitEncoder(model, mean, std)


def _pixel_scale(source: str | Path, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and width of the pixels from ``preprocessor_config.json``; 0.5 as in all released models without it."""
    half = (0.5,) * channels
    path = Path(source) / "preprocessor_config.json"
    if not path.is_file():
        return half, half
    try:
        stored = dict(json.loads(limits.text(path, limits.SETTINGS)))
    except (OSError, ValueError, TypeError, RecursionError):
        raise ArtifactError(f"{path}: expected JSON with image_mean and image_std") from None
    mean, std = tuple(stored.get("image_mean", half)), tuple(stored.get("image_std", half))
    return (mean, std) if len(mean) == len(std) == channels else (half, half)
