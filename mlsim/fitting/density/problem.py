"""A learning problem as the contrastive trainer sees it: an energy of vectors, its symmetry, and data.

Models differ in what they take (a batch of conformations in nm, an image); samplers want vectors. A :class:`Problem` is
where the two meet: ``energy`` maps vectors [B, d] to u [B] in units of kT, whatever lies behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlsim.errors import InputError
from mlsim.fitting.density.sampling_bias import TorsionBias
from mlsim.models.contract import BoundEnergy
from mlsim.models.ebm.energy_based import EBMSettings, EnergyBasedModel
from mlsim.models.ebm.prior import Spring, equal_points
from mlsim.samplers import Symmetry, orthogonal, permutations, translations

#: Conformations that the lowest value of a network is found from, and its quantile.
_SETTLED, _LOWEST = 5000, 1e-3
#: Noise on the conformations that negatives begin at, where the density is not a smoothed one; of the data's length.
FRESH_NOISE = 0.3
#: (count, generator) -> vectors [count, d].
Start = Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learned from what.

    Attributes
    ----------
    model : nn.Module
        Whose parameters are fitted.
    energy : callable
        Vectors [B, d] -> u [B], differentiable twice; p ~ exp(-u).
    symmetry : Symmetry
        Group that u is invariant under; used by E-SVGD, and its centring by every sampler.
    train, valid : Tensor [F, d]
    start : callable
        Where negatives begin.
    length : float
        Characteristic length of the data, in their own unit.
    bias_digest : str
        Digest of a bias that is part of ``energy`` but not of the model; empty if there is none.
    settle : callable
        Called with the noise of the learned density when training is over: limits the model outside the data with
        that noise. Why not before: while it learns, the constant of a network drifts by thousands of kT, and one that
        has drifted below its floor has no gradient left.
    """

    model: nn.Module
    energy: Callable[[Tensor], Tensor]
    symmetry: Symmetry
    train: Tensor
    valid: Tensor
    start: Start
    length: float
    bias_digest: str = ""
    settle: Callable[[float], None] = lambda noise: None

    def __post_init__(self) -> None:
        for name, data in (("training", self.train), ("held-out", self.valid)):
            if data.ndim != 2 or data.shape[1] != self.symmetry.dimension or len(data) == 0:
                raise InputError(
                    f"{name} data: expected vectors [n, {self.symmetry.dimension}], got shape {list(data.shape)}"
                )
            if not bool(torch.isfinite(data).all()):
                raise InputError(f"{name} data: expected finite numbers, got NaN or infinity")


def conformations(
    bound: BoundEnergy,
    train: Tensor,
    valid: Tensor,
    length: float = 1.0,
    start_noise: float = FRESH_NOISE,
    bias: TorsionBias | None = None,
) -> Problem:
    """The problem of conformations of one molecule or cluster.

    Parameters
    ----------
    bound : BoundEnergy
        An :class:`EnergyBasedModel` bound to its atoms; equal type and charge: equal atoms.
    train, valid : Tensor [F, N, s]
        Conformations in reduced lengths.
    length : float
        Characteristic length, reduced.
    start_noise : float
        Negatives begin at training conformations with this much noise, in units of ``length``.
    bias : TorsionBias, optional
        Bias that the conformations were made with; stays in the energy of the problem, not in the model.
    """
    model = bound.model
    if not isinstance(model, EnergyBasedModel):
        raise InputError(f"contrastive training: expected a model of kind 'ebm', got '{model.kind}'")
    config = model.config
    assert isinstance(config, EBMSettings)
    n_points, space = len(bound.types), model.space
    symmetry = (
        orthogonal(space, points=n_points)
        * permutations(equal_atoms(bound, config.springs), space=space)
        * translations(space, points=n_points)
    )
    like = next(model.parameters())
    data = symmetry.project(train.to(like).reshape(len(train), -1))
    types, charges = bound.types, bound.charges.to(like)

    def energy(vectors: Tensor) -> Tensor:
        points = vectors.reshape(len(vectors), n_points, space)
        own: Tensor = model.reduced(points, types, charges)
        return own if bias is None else own + bias(points)

    @torch.no_grad()
    def settle(noise: float) -> None:
        if model.depth > 0.0:
            some = data[torch.linspace(0, len(data) - 1, min(len(data), _SETTLED)).long()]
            unit = torch.randn(some.shape, generator=torch.Generator().manual_seed(_SETTLED), dtype=some.dtype)
            points = (some + noise * symmetry.project(unit)).reshape(-1, n_points, space)
            values = torch.cat([model.network(part, types, charges) for part in points.split(250)])
            model.settle(values.quantile(_LOWEST).item())

    return Problem(
        model,
        energy,
        symmetry,
        data,
        symmetry.project(valid.to(like).reshape(len(valid), -1)),
        around(data, start_noise * length, symmetry),
        length,
        "" if bias is None else bias.digest,
        settle,
    )


def around(data: Tensor, noise: float, symmetry: Symmetry) -> Start:
    """Starts at rows of ``data`` [F, d] with Gaussian noise of this standard deviation."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        chosen = data[torch.randint(len(data), (count,), generator=generator)]
        return chosen + noise * symmetry.project(torch.randn(chosen.shape, generator=generator, dtype=data.dtype))

    return draw


def equal_atoms(bound: BoundEnergy, springs: Sequence[Spring]) -> tuple[int, ...]:
    """A label per atom; equal labels have the same type, the same charge and the same springs."""
    kinds = [(int(t), round(float(q), 6)) for t, q in zip(bound.types, bound.charges, strict=True)]
    return equal_points(kinds, springs)
