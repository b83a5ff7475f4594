"""An energy-based model of conformations: p(x) ~ exp(-u(x)), learned from samples and usable as a force field.

    x    = positions / l                                      reduced, the first ``space`` coordinates of each point
    h^0  = E[t_i] + q_i w_q,   x^0 = x                        equal atoms: same type t and charge q
    h, x = L equivariant layers (see ``egnn``)
    v    = sum_i w_o . act(H h_i^L + b_H)
    u(x) = u_0(x) + (v if v > f else f - B tanh((f - v) / B)) u_0: the prior (see ``prior``); without B: u_0 + v
    E    = kT u                                               kJ/mol, at the temperature of the samples

u is invariant under rotation, reflection, translation and exchange of equal atoms; its additive constant is arbitrary.
E is the potential of mean force of the samples: molecular dynamics with E at that temperature samples exp(-u) again,
and at no other temperature does it mean anything. In a plane (``space`` 2) the third coordinate feels no force.

Why the prior is part of the model and not of the trainer: it must act in every sampler and in OpenMM alike.

Why B: samples teach the network nothing about conformations far from them, and there it can be deeper than any spring
of the prior is high. A model of alanine dipeptide with springs on bonds and angles alone fell to 200 kT below its
samples within a picosecond of dynamics, with atoms a third of their distance apart. Bounds on all other distances keep
it where the samples are; B is the guarantee behind them: the network goes at most B below f, its lowest value on the
samples (``settle``, when training is over), above which it is what it was before; the step between is C2.

Symbols: B ``depth``, f ``floor``, E ``embedding``, w_q ``charge_weight``, L ``layers``, H ``head_in``, w_o
``head_out``, l ``length_nm``, kT ``kT(temperature_K)``.

References: Jaini, Holdijk & Welling 2021, arXiv:2106.07832; Satorras et al. 2021, arXiv:2102.09844.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.models.atom_pairs import half_pairs, pair_distances, pair_vectors
from mlsim.models.contract import AbstractEnergyModel, ModelSettings
from mlsim.models.ebm.egnn import EquivariantLayer, all_pairs
from mlsim.models.ebm.prior import Bounds, PriorEnergy, Spring
from mlsim.models.radial import radial_basis, smooth_envelope
from mlsim.models.schnet import activation, linear
from mlsim.seeds import torch_stream
from mlsim.units import kT

#: Floor of a network that has not settled, kT.
_BOTTOMLESS = -1e9


class EBMSettings(ModelSettings):
    """Architecture, prior and units of an energy-based model; lengths without a unit are in ``length_nm``.

    ``depth`` is how far the network may go below its lowest value on the samples, kT; 0: no limit.
    """

    features: int = Field(32, ge=1, le=1024)
    layers: int = Field(2, ge=1, le=16)
    n_radial: int = Field(16, ge=2, le=512)
    cutoff_nm: float = Field(1.2, gt=0.0)
    activation: Literal["tanh", "silu"] = "silu"
    radial: Literal["gaussian", "bessel"] = "gaussian"
    space: Literal[2, 3] = 3
    length_nm: float = Field(0.1, gt=0.0)
    temperature_K: float = Field(300.0, gt=0.0)
    trap: float = Field(0.0, ge=0.0)
    cage: float = Field(0.0, ge=0.0)
    core: float = Field(0.0, ge=0.0)
    springs: tuple[Spring, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    depth: float = Field(0.0, ge=0.0)


class EnergyBasedModel(AbstractEnergyModel):
    """Invariant energy from equivariant layers on top of a prior.

    Parameters
    ----------
    config : EBMSettings
    seed : int
        Root seed of the initial weights.
    """

    kind: ClassVar[str] = "ebm"
    settings_type: ClassVar[type[ModelSettings]] = EBMSettings
    role: ClassVar[str] = "potential"
    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        floor: Tensor

    def __init__(self, config: EBMSettings, seed: int = 0) -> None:
        super().__init__(config, seed)
        generator = torch_stream(seed, "ebm.weights")
        width = config.features
        self.space, self.length_nm = config.space, config.length_nm
        self.unit, self.depth = kT(config.temperature_K), config.depth
        self.cutoff = config.cutoff_nm / config.length_nm
        self.prior = PriorEnergy(config.trap, config.cage, config.core, config.springs, config.bounds)
        self.embedding = nn.Parameter(torch.randn(len(config.vocabulary), width, generator=generator))
        self.charge_weight = nn.Parameter(torch.randn(width, generator=generator))
        self.radial = radial_basis(config.radial, config.n_radial, self.cutoff)
        self.layers = nn.ModuleList(
            EquivariantLayer(width, config.n_radial, self.cutoff, config.activation, generator)
            for _ in range(config.layers)
        )
        self.head_in = linear(width, width, generator)
        self.head_out = linear(width, 1, generator, bias=False)
        self.activation = activation(config.activation)
        self.register_buffer("floor", torch.tensor(_BOTTOMLESS), persistent=config.depth > 0.0)

    def settle(self, floor: float) -> None:
        """From now on the network may go ``depth`` below ``floor`` (kT) and no further."""
        self.floor.fill_(floor)

    def unsettle(self) -> None:
        """From now on the network has no floor, as it must be while it learns."""
        self.floor.fill_(_BOTTOMLESS)

    def forward(self, positions: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """Energies [B] (kJ/mol) of positions [B, N, 3] (nm), types [N] and charges [N] (e)."""
        return self.unit * self.reduced(positions.narrow(-1, 0, self.space) / self.length_nm, types, charges)

    @torch.jit.export
    def reduced(self, points: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """u [B] of points [B, N, s] in reduced lengths."""
        first, second = half_pairs(points.size(1), points.device)
        distance = pair_distances(pair_vectors(points, first, second))
        learned = self.output(points, first, second, distance, types, charges)
        if self.depth > 0.0:
            below = self.floor - learned
            learned = torch.where(below < 0.0, learned, self.floor - self.depth * torch.tanh(below / self.depth))
        return self.prior(points, distance) + learned

    def network(self, points: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """v [B], the network alone without its floor, kT."""
        first, second = half_pairs(points.size(1), points.device)
        distance = pair_distances(pair_vectors(points, first, second))
        return self.output(points, first, second, distance, types, charges)

    def output(
        self, points: Tensor, first: Tensor, second: Tensor, distance: Tensor, types: Tensor, charges: Tensor
    ) -> Tensor:
        """v [B] of points whose pairs i < j are ``first``, ``second`` [P] at ``distance`` [B, P]."""
        edges = all_pairs(first, second)
        both = torch.cat([distance, distance], dim=1)
        basis = self.radial(both)
        envelope = smooth_envelope(both, self.cutoff).unsqueeze(-1)
        charge = charges.to(self.charge_weight.dtype).unsqueeze(-1)
        features = self.embedding.index_select(0, types) + charge * self.charge_weight
        features = features.unsqueeze(0).expand(points.size(0), features.size(0), features.size(1))
        vectors = points
        for layer in self.layers:
            features, vectors = layer(features, vectors, edges, basis, envelope)
        return self.head_out(self.activation(self.head_in(features))).squeeze(-1).sum(-1)
