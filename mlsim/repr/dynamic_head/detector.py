r"""A small object detector: pyramid, Dynamic Head (or plain convolutions), one prediction per point.

    image -> Pyramid -> DyHeadNeck -> per point: class logits, distances to the four sides, centre-ness
    score = sqrt( sigma(class) sigma(centre-ness) ),   distance = stride softplus(a_l raw)

As in the paper's strongest models all capacity sits in the head's blocks; the predictors are single 1 x 1 convolutions.
a_l is one learned number per level.

On disk a detector is a directory with ``detector.json`` (format, version, settings) and ``weights.safetensors``;
neither can carry code, and both are written whole or not at all. ``from_pretrained`` also takes the name of a detector
shipped in ``trained/``, whose ``card.yaml`` says what it was trained on.

Reference: Tian et al., FCOS, arXiv:1904.01355; Dai et al., Dynamic Head, arXiv:2106.08322.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.files import write_bytes, write_text
from mlsim.repr.dynamic_head.assignment.assign import Points, boxes_at, points
from mlsim.repr.dynamic_head.assignment.boxes import suppress
from mlsim.repr.dynamic_head.assignment.detection_losses import detection_loss
from mlsim.repr.dynamic_head.network.block import DyHeadSettings
from mlsim.repr.dynamic_head.network.neck import DyHeadNeck
from mlsim.repr.dynamic_head.network.pyramid import ConvolutionTower, Pyramid
from mlsim.repr.dynamic_head.scenes.scene import Detections, Scene
from mlsim.repr.encoder import fill, read_state
from mlsim.settings import Settings
from mlsim.shapes import Floats, require_shape

FORMAT, VERSION = "mlsim-detector", 1
CONFIG, WEIGHTS = "detector.json", "weights.safetensors"
#: Where shipped detectors lie.
TRAINED = Path(__file__).parent / "trained"
#: Probability of a class before training.
_PRIOR = 0.01
#: Candidates kept before suppression, and detections kept after it.
_CANDIDATES, _MOST = 400, 100


class DetectorSettings(Settings):
    """Shape of a detector."""

    classes: tuple[str, ...] = Field(min_length=1)
    widths: tuple[int, ...] = Field((16, 32, 48, 64), min_length=2, description="channels of stem and stages")
    head: Literal["dynamic", "convolution"] = "dynamic"
    neck: DyHeadSettings = DyHeadSettings()


class Detector(nn.Module):
    """Finds boxes of named classes in grey images.

    Parameters
    ----------
    settings : DetectorSettings
    seed : int
        Of the starting weights.
    """

    def __init__(self, settings: DetectorSettings, seed: int = 0) -> None:
        super().__init__()
        odd = [width for width in settings.widths if width % 8]
        if odd:
            raise InputError(f"detector: expected widths that are multiples of 8, got {odd[0]}")
        self.settings = settings
        neck = settings.neck
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pyramid = Pyramid(1, settings.widths, neck.in_channels)
            self.head: nn.Module = (
                DyHeadNeck(neck)
                if settings.head == "dynamic"
                else ConvolutionTower(neck.in_channels, neck.channels, neck.blocks)
            )
            self.classify = nn.Conv2d(neck.channels, len(settings.classes), 1)
            self.regress = nn.Conv2d(neck.channels, 4, 1)
            self.centre = nn.Conv2d(neck.channels, 1, 1)
            for layer in (self.classify, self.regress, self.centre):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            nn.init.constant_(self.classify.bias, -math.log((1.0 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]
            nn.init.constant_(self.regress.bias, 1.0)  # type: ignore[arg-type]
        self.level_scale = nn.Parameter(torch.ones(len(self.pyramid.strides)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.settings.classes

    def forward(self, images: Tensor) -> tuple[Points, Tensor, Tensor, Tensor]:
        """Predictions for ``images`` [B, 1, H, W], H and W multiples of the coarsest stride.

        Returns
        -------
        Points, and per point class logits [B, P, classes], distances to the sides [B, P, 4] (pixels) and logits of the
        centre-ness [B, P].
        """
        levels = list(self.head(self.pyramid(images)).values())
        sizes = [(int(level.shape[2]), int(level.shape[3])) for level in levels]
        logits = torch.cat([_rows(self.classify(level)) for level in levels], dim=1)
        central = torch.cat([_rows(self.centre(level)) for level in levels], dim=1)[..., 0]
        distances = torch.cat(
            [
                functional.softplus(_rows(self.regress(level)) * scale) * stride
                for level, scale, stride in zip(levels, self.level_scale, self.pyramid.strides, strict=True)
            ],
            dim=1,
        )
        return points(sizes, self.pyramid.strides), logits, distances, central

    def loss(self, scenes: Sequence[Scene]) -> Tensor:
        """Training loss of a batch of scenes of one size."""
        images = self._batch([scene.image for scene in scenes])
        boxes = [torch.as_tensor(scene.boxes, dtype=torch.float32) for scene in scenes]
        labels = [torch.as_tensor(scene.labels, dtype=torch.long) for scene in scenes]
        places, logits, distances, central = self(images)
        return detection_loss(places, logits, distances, central, boxes, labels)

    def detect(self, image: Floats, *, score: float = 0.3, overlap: float = 0.6) -> Detections:
        """Boxes in one image.

        Parameters
        ----------
        image : [H, W]
            In [0, 1]; any size from 8 pixels on.
        score : float
            Lowest score that is reported.
        overlap : float
            Boxes of one class that overlap a better one by more (IoU) are dropped.

        Raises
        ------
        InputError
            If the image is not a finite [H, W] array in [0, 1].
        """
        checked = require_shape(image, (None, None), "image")
        if min(checked.shape) < 8:
            raise InputError(f"image: expected at least 8 x 8 pixels, got {checked.shape[0]} x {checked.shape[1]}")
        if checked.min() < 0.0 or checked.max() > 1.0:
            raise InputError(f"image: expected values in [0, 1], got [{checked.min():g}, {checked.max():g}]")
        with torch.no_grad():
            places, logits, distances, central = self(self._batch([checked]))
            values = (torch.sigmoid(logits[0]) * torch.sigmoid(central[0])[:, None]).sqrt()
            best = values.flatten().topk(min(_CANDIDATES, values.numel()))
            chosen = best.indices[best.values >= score]
            scores, labels = values.flatten()[chosen], chosen % len(self.classes)
            point = chosen // len(self.classes)
            boxes = boxes_at(places.xy[point], distances[0, point])
            limit = torch.tensor([checked.shape[1], checked.shape[0]] * 2, dtype=boxes.dtype)
            boxes = torch.minimum(boxes.clamp(min=0.0), limit)
            kept = suppress(boxes, scores, labels, overlap)[:_MOST]
        return Detections(
            boxes[kept].double().numpy(), scores[kept].double().numpy(), labels[kept].numpy(), self.classes
        )

    def _batch(self, images: Sequence[Floats]) -> Tensor:
        """Images [B, 1, H', W'] with mean grey 0; edges repeated up to a multiple of the coarsest stride."""
        stacked = torch.as_tensor(np.stack(images), dtype=torch.float32)[:, None] - 0.5
        stride = self.pyramid.strides[-1]
        down, right = (-stacked.shape[2]) % stride, (-stacked.shape[3]) % stride
        return functional.pad(stacked, (0, right, 0, down), mode="replicate") * 4.0

    def save(self, directory: str | Path) -> Path:
        """Write ``detector.json`` and ``weights.safetensors`` into ``directory``.

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        directory = Path(directory)
        record = {"format": FORMAT, "version": VERSION, "settings": self.settings.model_dump(mode="json")}
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_bytes(directory / WEIGHTS, save(state))
        write_text(directory / CONFIG, json.dumps(record, indent=1) + "\n")
        return directory

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Detector:
        """Load a detector from a directory, or a shipped one by its name.

        Raises
        ------
        MissingError
            If there is none.
        ArtifactError
            If its files are damaged or do not belong together.
        """
        directory = Path(source)
        if not directory.is_dir():
            directory = TRAINED / str(source)
        if not (directory / CONFIG).is_file():
            known = ", ".join(available()) or "none"
            raise MissingError(f"{source}: no detector there; expected a directory with {CONFIG} or one of: {known}")
        try:
            record = json.loads(limits.text(directory / CONFIG, limits.SETTINGS))
            fits = record["format"] == FORMAT and record["version"] <= VERSION
            wanted = record["settings"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise ArtifactError(f"{directory / CONFIG}: damaged; save the detector again") from None
        if not fits:
            raise ArtifactError(f"{directory / CONFIG}: expected format '{FORMAT}' up to version {VERSION}")
        detector = cls(DetectorSettings.parse(wanted, str(directory / CONFIG)))
        fill(detector, read_state(directory), str(directory))
        return detector.eval()


def available() -> tuple[str, ...]:
    """Names of the shipped detectors."""
    return tuple(sorted(path.parent.name for path in TRAINED.glob(f"*/{CONFIG}")))


def _rows(level: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H W, C]."""
    return level.flatten(2).transpose(1, 2)
