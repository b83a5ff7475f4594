"""ISSNet: a continuous-filter network for the solvation free energy of a peptide.

The solvent's potential of mean force W(r) is a function of the solute's geometry alone. The network writes it as a
sum over solute atoms, each seeing all others within the cutoff, bonded ones included:

    h_i^0 = E[t_i] + q_i w_q
    h_i^l = h_i^(l-1) + block_l(h^(l-1), d)_i              l = 1..L, see ``schnet``
    W(r)  = s sum_i w_o . tanh(H h_i^L + b_H)              (kJ/mol)

Together with the intact molecular-mechanics terms of the solute it gives the full potential of the solvated molecule.
Only gradients of W are trained by force matching, so its additive constant is whatever the parameters
give, and carries no meaning: compare energies of one molecule with each other only. With ``baseline`` other than
``none`` the network holds the difference from that generalized Born model, which must then act beside it.

Symbols: E ``embedding``, t ``types``, q ``charges``, w_q ``charge_weight``, L ``blocks``, H ``head_in``,
w_o ``head_out``, s ``energy_scale``.

Reference: Chen, Kraemer, Charron, Husic, Clementi, Noe, J. Chem. Phys. 155, 084101 (2021).
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from mlsim.models.atom_pairs import half_pairs, pair_distances, pair_vectors
from mlsim.models.contract import AbstractEnergyModel, ModelSettings
from mlsim.models.radial import radial_basis, smooth_envelope
from mlsim.models.schnet import InteractionBlock, activation, linear
from mlsim.seeds import torch_stream


class ISSNetSettings(ModelSettings):
    """Architecture of an ISSNet; with the weights it is the whole model."""

    features: int = Field(64, ge=1, le=1024)
    blocks: int = Field(2, ge=1, le=16)
    n_radial: int = Field(32, ge=2, le=512)
    cutoff_nm: float = Field(1.2, gt=0.0)
    activation: Literal["tanh", "silu"] = "tanh"
    radial: Literal["gaussian", "bessel"] = "gaussian"
    energy_scale: float = Field(1.0, gt=0.0)
    baseline: str = Field("none", min_length=1)


class ISSNet(AbstractEnergyModel):
    """Solvation free energy from a SchNet-type network.

    Parameters
    ----------
    config : ISSNetSettings
    seed : int
        Root seed of the initial weights.
    """

    kind: ClassVar[str] = "issnet"
    settings_type: ClassVar[type[ModelSettings]] = ISSNetSettings

    def __init__(self, config: ISSNetSettings, seed: int = 0) -> None:
        super().__init__(config, seed)
        generator = torch_stream(seed, "issnet.weights")
        width = config.features
        self.cutoff_nm = config.cutoff_nm
        self.energy_scale = config.energy_scale
        self.embedding = nn.Parameter(torch.randn(len(config.vocabulary), width, generator=generator))
        self.charge_weight = nn.Parameter(torch.randn(width, generator=generator))
        self.radial = radial_basis(config.radial, config.n_radial, config.cutoff_nm)
        self.blocks = nn.ModuleList(
            InteractionBlock(width, config.n_radial, config.activation, generator) for _ in range(config.blocks)
        )
        self.head_in = linear(width, width, generator)
        self.head_out = linear(width, 1, generator, bias=False)
        self.activation = activation(config.activation)

    def forward(self, positions: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """Energies [B] (kJ/mol) of positions [B, N, 3] (nm), types [N] and charges [N] (e)."""
        first, second = half_pairs(positions.size(1), positions.device)
        distance = pair_distances(pair_vectors(positions, first, second))
        basis = self.radial(distance)
        envelope = smooth_envelope(distance, self.cutoff_nm)
        features = self.atom_features(types, charges).unsqueeze(0)
        for block in self.blocks:
            features = features + block(features, basis, envelope, first, second)
        return self.atom_energies(features).sum(-1)

    @torch.jit.export
    def atom_features(self, types: Tensor, charges: Tensor) -> Tensor:
        """Initial features h^0 [N, F] of the atoms."""
        charge = charges.to(self.charge_weight.dtype).unsqueeze(-1)
        return self.embedding.index_select(0, types) + charge * self.charge_weight

    @torch.jit.export
    def atom_energies(self, features: Tensor) -> Tensor:
        """Contributions [..., N] (kJ/mol) of atoms with final features [..., N, F]."""
        return self.energy_scale * self.head_out(self.activation(self.head_in(features))).squeeze(-1)

    @torch.jit.unused
    def filters(self, distance: Tensor) -> Tensor:
        """Filters [L, K, F] of all blocks, envelope included, at distances [K] (nm)."""
        basis = self.radial(distance)
        envelope = smooth_envelope(distance, self.cutoff_nm)
        return torch.stack([cast(InteractionBlock, block).filters(basis, envelope) for block in self.blocks])
