"""Population matching: a second stage that corrects basin populations, without new forces.

Force matching leaves small errors of the mean force on barriers, which integrate into wrong weights of whole
basins. Here the network is told apart from the explicit ensemble: x from explicit water, y from a run with the network
theta_0 that force matching gave. At fixed solute both have the same vacuum terms, so the log ratio of the densities is

    G(r) = -beta [ W_theta(r) - W_theta0(r) ] + const

and conditional noise-contrastive estimation (Gutmann and Hyvarinen 2010; Ma and Collins 2018) finds theta from pairs:

    L = < log(1 + exp(-(G(x) - G(y)))) >_{x ~ explicit, y ~ theta_0}

The constant cancels. At the optimum exp(-beta U_theta) is the explicit density wherever both ensembles have frames.
Frames of biased runs are drawn with weights exp(+V / kT); under one static bias in both runs the weights are not needed
(they cancel in G as the vacuum terms do), and drawing unweighted frames has far less variance. The force-matching loss
stays in, so that forces are not traded for populations (a generalized Born baseline under the network cancels in G like
the vacuum terms, and its forces are taken off the labels as in the first stage):

    L_total = L_forces + lambda L

Symbols: beta ``inverse_kT``, lambda ``weight``, x ``explicit``, y ``generated``, G ``log_ratio``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.force_matching import (
    Baseline,
    FitResult,
    ForceMatching,
    Task,
    carry_out,
    fit_identity,
    require_fitting,
)
from mlsim.models.contract import AbstractEnergyModel
from mlsim.records import digest_of_all
from mlsim.seeds import numpy_stream
from mlsim.settings import Settings
from mlsim.shapes import Floats, require_shape
from mlsim.units import kT


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Frames of one ensemble and how often each is drawn.

    Attributes
    ----------
    positions : [F, N, 3], nm
    weights : [F]
        Not negative, not all zero; need not be normalised.
    """

    positions: Floats
    weights: Floats

    @classmethod
    def create(cls, positions: Floats, weights: Floats | None = None) -> Ensemble:
        """Validate; without weights every frame counts the same.

        Raises
        ------
        InputError
            On wrong shapes or weights that cannot be drawn from.
        """
        x = require_shape(positions, (None, None, 3), "ensemble positions (nm)")
        w = np.ones(len(x)) if weights is None else require_shape(weights, (len(x),), "ensemble weights")
        if (w < 0).any() or not w.sum() > 0:
            raise InputError("ensemble weights: expected numbers that are not negative and not all zero")
        return cls(x, w)

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Indices of ``count`` frames, with replacement."""
        return generator.choice(len(self.positions), count, p=self.weights / self.weights.sum())


class PopulationSettings(Settings):
    """How much the populations count.

    ``weight`` is lambda, ``pairs`` the pairs per step.
    """

    weight: float = Field(0.3, gt=0)
    pairs: int = Field(64, ge=1)


class PopulationMatching:
    """Objective of :func:`mlsim.fitting.loop.run`: forces plus populations.

    Parameters
    ----------
    model : AbstractEnergyModel
        With the parameters theta_0 of the run that made ``generated``.
    forces : ForceMatching
        The first stage's objective for the same model.
    explicit, generated : pair of Ensemble
        (training, held-out) frames of each ensemble.
    temperature_K : float
    settings : PopulationSettings
    seed : int
    """

    unit = "force loss + weight x pair loss"

    def __init__(
        self,
        model: AbstractEnergyModel,
        forces: ForceMatching,
        explicit: tuple[Ensemble, Ensemble],
        generated: tuple[Ensemble, Ensemble],
        temperature_K: float,
        settings: PopulationSettings,
        seed: int,
    ) -> None:
        self.forces, self.n_frames = forces, forces.n_frames
        self.weight, self.pairs, self.seed = settings.weight, settings.pairs, seed
        self.inverse_kT = 1.0 / kT(temperature_K)
        dtype = next(model.parameters()).dtype
        self._train = tuple(_Side(e[0], forces, dtype) for e in (explicit, generated))
        self._valid = tuple(_Side(e[1], forces, dtype) for e in (explicit, generated))

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Force loss of the frames ``index`` plus lambda times the pair loss of as many pairs as asked for."""
        generator = numpy_stream(self.seed, f"population.{int(index[0])}.{int(index[-1])}.{int(index.sum())}")
        chosen = [side.ensemble.draw(self.pairs, generator) for side in self._train]
        return self.forces.loss(index) + self.weight * self._pair_loss(self._train, chosen)

    def readable(self, loss: float) -> float:
        """The loss itself (dimensionless)."""
        return loss

    def validate(self) -> float:
        """Force loss plus lambda times pair loss on held-out frames (the same pairs at every call)."""
        generator = numpy_stream(self.seed, "population.valid")
        count = 8192
        chosen = [side.ensemble.draw(count, generator) for side in self._valid]
        with torch.no_grad():
            pair = self._pair_loss(self._valid, chosen).item()
        return self.forces.validate() ** 2 / self.forces.scale + self.weight * pair

    def pair_loss(self) -> float:
        """Held-out pair loss alone; log 2 = 0.693 means that the ensembles cannot be told apart by G."""
        generator = numpy_stream(self.seed, "population.valid")
        chosen = [side.ensemble.draw(8192, generator) for side in self._valid]
        with torch.no_grad():
            return self._pair_loss(self._valid, chosen).item()

    def _pair_loss(self, sides: tuple[_Side, ...], chosen: list[NDArray[np.int64]]) -> Tensor:
        first, second = (side.change(k) for side, k in zip(sides, chosen, strict=True))
        log_ratio = -self.inverse_kT * (first - second)
        return torch.nn.functional.softplus(-log_ratio).mean()


@dataclass(frozen=True, eq=False)
class FirstStage:
    """The fit that is corrected: its frames as it split them, what lies under its network, and which fit it was.

    Attributes
    ----------
    train, valid : ForceFrames
        Training and held-out force labels.
    baseline : Baseline or None
        Forces of the model under the network on these frames; the run was made with it.
    identity : str or None
        Identity of the first stage's fit.
    """

    train: ForceFrames
    valid: ForceFrames
    baseline: Baseline | None = None
    identity: str | None = None


@dataclass(frozen=True, eq=False)
class Ensembles:
    """What is told apart, each as (training, held-out) frames.

    Attributes
    ----------
    explicit : pair of Ensemble
        Frames in explicit water.
    generated : pair of Ensemble
        Frames of a run with the model as it is now.
    temperature_K : float
        Temperature of both, K.
    """

    explicit: tuple[Ensemble, Ensemble]
    generated: tuple[Ensemble, Ensemble]
    temperature_K: float


def fit(
    model: AbstractEnergyModel,
    first: FirstStage,
    ensembles: Ensembles,
    settings: TrainSettings,
    population: PopulationSettings,
    directory: Path,
    progress: Literal["auto", "off"] = "auto",
    start: Literal["new", "resume"] = "new",
) -> tuple[FitResult, float]:
    """Correct the populations of ``model`` (changed in place).

    Files as :func:`mlsim.fitting.solvent.force_matching.fit` leaves them.

    Parameters
    ----------
    first : FirstStage
    ensembles : Ensembles
    settings : TrainSettings
        Of the loop, as in the first stage.
    population : PopulationSettings
        How much the populations count.

    Returns
    -------
    FitResult
    float
        Held-out pair loss of the result (log 2 for the model it started from).

    Raises
    ------
    InputError, OccupiedError, CheckpointError, StorageError, UnphysicalError
        As in the first stage.
    """
    frames, baseline = (first.train, first.valid), first.baseline
    explicit, generated, temperature_K = ensembles.explicit, ensembles.generated, ensembles.temperature_K
    require_fitting(model, *frames, baseline)
    forces = ForceMatching(model, *frames, settings, baseline)
    objective = PopulationMatching(model, forces, explicit, generated, temperature_K, population, settings.seed)
    parts: list[str | NDArray[Any]] = [fit_identity(model, *frames, settings, baseline)]
    parts.append(f"{population.digest()}/{temperature_K}")
    for name, tensor in sorted(model.state_dict().items()):
        parts += [name, tensor.numpy()]
    for ensemble in (*explicit, *generated):
        parts += [np.ascontiguousarray(ensemble.positions), ensemble.weights]
    identity = digest_of_all(parts)
    task = Task("populations", identity, *frames, settings, directory, progress, baseline, start, first.identity)
    return carry_out(objective, forces, task), objective.pair_loss()


class _Side:
    """Frames of one ensemble with the energies of theta_0."""

    def __init__(self, ensemble: Ensemble, forces: ForceMatching, dtype: torch.dtype) -> None:
        self.ensemble, self._engine = ensemble, forces.engine
        self._positions = torch.tensor(np.asarray(ensemble.positions), dtype=dtype)
        parts = []
        with torch.no_grad():
            for start in range(0, len(self._positions), 256):
                parts.append(self._engine(self._positions[start : start + 256])[0])
        self._before = torch.cat(parts)

    def change(self, index: NDArray[np.int64]) -> Tensor:
        """W_theta - W_theta0 of frames ``index``, kJ/mol."""
        chosen = torch.from_numpy(index)
        return self._engine(self._positions[chosen])[0] - self._before[chosen]
