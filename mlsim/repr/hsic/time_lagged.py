"""TimeLaggedHSIC: collective variables from what a frame and the frame a lag later have in common.

    positives (x_t, x_{t+lag}) -> whitening, perceptron f -> z = f(x) / |f(x)| -> L = gamma sqrt(HSIC(Z, Z)) - HSIC(Z,
    Y)

What is gone after a lag cannot be predicted from the other view and is dropped by the features; what stays is the slow
part. Unlike TICA the features are nonlinear, unlike VAMPnets no covariance matrix is inverted in the loss. After
training the features are rotated by ``slow_axes``, so that column one is the slowest and every column has an implied
timescale.

Why gamma is 0.3 here: two metastable states are two clusters, which the loss rewards only for gamma < 1
(``objectives``).

Symbols: lag in frames; L see ``objectives``.

References: Li et al. 2021, arXiv:2106.08320 (the loss); the use of frames a lag apart as views is this package's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mlsim.errors import InputError
from mlsim.repr.encoder import InputSettings, Progress
from mlsim.repr.hsic.hsic_encoder import HsicEncoder
from mlsim.repr.hsic.hsic_pretrain import PretrainSettings, pretrain
from mlsim.repr.hsic.networks import Mlp, NetworkSettings, whitening_of
from mlsim.repr.hsic.objectives import ObjectiveSettings
from mlsim.repr.hsic.slow_axes import run_numbers, slow_axes
from mlsim.repr.pairs import time_lagged
from mlsim.seeds import torch_stream
from mlsim.settings import Settings
from mlsim.shapes import Floats, require_shape


class TimeLaggedSettings(Settings):
    """Network and training of a :class:`TimeLaggedHSIC`."""

    dimension: int = Field(8, ge=2, le=512)
    width: int = Field(64, ge=1, le=4096)
    depth: int = Field(2, ge=1, le=8)
    training: PretrainSettings = PretrainSettings(objective=ObjectiveSettings(gamma=0.3))


class TimeLaggedHSIC:
    """Learn collective variables from trajectories of features.

    Parameters
    ----------
    lag : int
        Frames between the two views; several times the fast motions, well below the slow ones.
    settings : TimeLaggedSettings, optional
        ``settings.training.objective`` also chooses InfoNCE or BYOL.
    inputs : InputSettings, optional
        How the features are made from a trajectory; stored with the encoder so that ``mlsim encode`` can follow it.

    Attributes
    ----------
    encoder : HsicEncoder
        After :meth:`fit`.
    losses : list of float
        Loss of every step.
    """

    def __init__(
        self, lag: int, settings: TimeLaggedSettings | None = None, inputs: InputSettings | None = None
    ) -> None:
        if lag < 1:
            raise InputError(f"lag: expected at least one frame, got {lag}")
        self.lag = lag
        self.settings = settings or TimeLaggedSettings()
        self.inputs = inputs or InputSettings()
        self.losses: list[float] = []
        self._encoder: HsicEncoder | None = None

    @property
    def encoder(self) -> HsicEncoder:
        """The trained encoder, layer ``slow`` last."""
        if self._encoder is None:
            raise InputError("TimeLaggedHSIC: not trained yet; call fit first")
        return self._encoder

    def fit(
        self, trajectories: Sequence[Floats] | Floats, y: None = None, *, progress: Progress | None = None
    ) -> TimeLaggedHSIC:
        """Train on features of one or several trajectories.

        Parameters
        ----------
        trajectories : array [T, d] or sequence of arrays [T_k, d]
        y : None
            Not used; pipelines of scikit-learn pass it.
        progress : callable, optional
            ``progress(done, total)`` in steps.

        Raises
        ------
        InputError
            If they differ in d, hold NaN, or none is longer than the lag.
        """
        parts = _parts(trajectories)
        rows = np.concatenate(parts)
        mean, matrix = whitening_of(rows)
        if matrix.shape[1] == 0:
            raise InputError("features: all are constant; expected features that change with time")
        given = self.settings
        shape = NetworkSettings(
            shape=(rows.shape[1],), width=given.width, depth=given.depth, out=given.dimension, whitened=matrix.shape[1]
        )
        backbone = Mlp(shape, torch_stream(given.training.seed, "hsic.backbone"))
        backbone.use_whitening(mean, matrix)
        self.losses = pretrain(backbone, LaggedViews(parts, self.lag), given.training, progress)
        plain = HsicEncoder(backbone, shape)
        unit = [_unit(plain.encode(part, batch_size=4096)) for part in parts]
        self._encoder = HsicEncoder(backbone, shape, slow_axes(unit, self.lag))
        self._encoder.inputs = self.inputs
        return self

    def transform(self, features: Floats) -> NDArray[np.float32]:
        """Coordinates [T, m] of features [T, d], slowest first, zero mean and unit variance on the training data."""
        return self.encoder.encode(features, batch_size=4096)

    def timescales(self) -> Floats:
        """Implied timescales of the coordinates on the training data, in frames [m]."""
        axes = self.encoder.axes
        assert axes is not None
        return axes.timescales()

    def save(self, directory: str | Path) -> Path:
        """Write the encoder; read it back with ``HsicEncoder.from_pretrained`` or ``load_encoder``."""
        return self.encoder.save(directory)


class LaggedViews:
    """View source: random frames, and the frames a lag later in the same trajectory."""

    def __init__(self, trajectories: Sequence[Floats], lag: int) -> None:
        self._frames = torch.tensor(np.concatenate(trajectories), dtype=torch.float32)
        self._first, self._second = (torch.tensor(index) for index in time_lagged(run_numbers(trajectories), lag))

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two batches [n, d]."""
        chosen = torch.randint(len(self._first), (n,), generator=generator)
        return self._frames[self._first[chosen]], self._frames[self._second[chosen]]


def _parts(trajectories: Sequence[Floats] | Floats) -> list[Floats]:
    """A list of checked trajectories with the same number of features."""
    given = [trajectories] if isinstance(trajectories, np.ndarray) and trajectories.ndim == 2 else list(trajectories)
    if not given:
        raise InputError("trajectories: expected at least one array [T, d], got none")
    width = np.asarray(given[0]).shape[-1] if np.asarray(given[0]).ndim == 2 else None
    return [require_shape(x, (None, width), f"features of trajectory {k + 1}") for k, x in enumerate(given)]


def _unit(features: NDArray[np.float32]) -> Floats:
    wide = features.astype(np.float64)
    unit: Floats = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
