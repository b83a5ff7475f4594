"""Quick forces of a transferable solvent for training, on conformations of many molecules at once.

The same idea as ``issnet.tabulated``: filters are evaluated on knots once per batch, forces are written out instead of
differentiated, so that one ordinary backward pass gives the gradient of a loss of forces. Two things are new. The
atoms of all conformations stand in one list, and only pairs within the cutoff are listed for the network. And the
network's outputs z = (e, phi, psi) enter generalized Born, so the pull on them is not one but

    dE/de_i   = 1
    dE/dphi_i = dE/dR_i B_i b'(phi_i)          R_i = b_i B_i
    dE/dpsi_i = dE/dh_i h'(psi_i)

and the forces of Born have a direct part, through distances in f_ij, and one through the radii:

    dE/dd_ij = dE_ij/dd + G_i dH_ij/dd + G_j dH_ji/dd,    G_i = (dE/dB_i) dB_i/d(sum_i)

With w = dE_ij/df^2 = -K q_i q_j / (2 f^3), s = h_i + h_j, D = R_i R_j, x = exp(-d^2 s / (8 D)), where f^2 = d^2 + D x:

    df^2/dd = 2 d (1 - s x / 8),   df^2/dD = x (1 + d^2 s / (8 D)),   df^2/dh_i = -d^2 x / 8

Positions do not depend on the parameters, so B, dB/d(sum) and dH/dd are numbers (``born_pairs``). CPU only.

Symbols as in ``screening`` and ``issnet.tabulated``; K ``strength``.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from mlsim.models.issnet.tabulated import TabulatedFilters
from mlsim.models.pair_kernels import messages, pull
from mlsim.models.schnet import InteractionBlock, value_and_slope
from mlsim.models.transferable import screening
from mlsim.models.transferable.atom_batch import AtomBatch
from mlsim.models.transferable.atoms import CHARGE, OFFSET_RADIUS, SCALED_RADIUS
from mlsim.models.transferable.born_pairs import pair_slopes
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, TransferableSettings


class FlatForces:
    """Forces of batches, differentiable in the parameters of ``model``.

    Parameters
    ----------
    model : TransferableISSNet
        On the CPU; its current parameters are used at every call.
    """

    def __init__(self, model: TransferableISSNet) -> None:
        self.model = model
        config = cast(TransferableSettings, model.config)
        dtype = model.embedding.dtype
        self.filters = TabulatedFilters(model.radial, config.n_radial, model.cutoff_nm, dtype)

    def __call__(self, batch: AtomBatch) -> Tensor:
        """Forces [A, 3] (kJ/mol/nm) of the whole solvent."""
        return self._forces(batch, "whole" if self.model.born else "network")

    def of_network(self, batch: AtomBatch) -> Tensor:
        """Forces [A, 3] (kJ/mol/nm) of the network's energies alone, beside which Born stands as it is.

        For forms without scaled radii: there Born's forces are the same whatever the parameters.
        """
        return self._forces(batch, "network")

    def energies(self, batch: AtomBatch) -> Tensor:
        """Energies [M] (kJ/mol) of the whole solvent, differentiable in the parameters (not in the positions)."""
        vectors = batch.positions[batch.first] - batch.positions[batch.second]
        distance = (vectors.square().sum(-1) + 1e-12).sqrt()
        near = torch.nonzero(distance < self.model.cutoff_nm).squeeze(-1)
        network = _Network(self, batch, batch.first[near], batch.second[near], distance[near])
        return self.model.total(
            network.outputs, distance, batch.parameters, batch.conformation, batch.first, batch.second, batch.count
        )

    def _forces(self, batch: AtomBatch, part: Literal["whole", "network"]) -> Tensor:
        vectors = batch.positions[batch.first] - batch.positions[batch.second]
        distance = (vectors.square().sum(-1) + 1e-12).sqrt()
        near = torch.nonzero(distance < self.model.cutoff_nm).squeeze(-1)
        first, second, close = batch.first[near], batch.second[near], distance[near]
        network = _Network(self, batch, first, second, close)
        slopes = torch.zeros_like(distance)
        gradient = torch.zeros_like(network.outputs)
        if self.model.energy_at >= 0:
            gradient[:, self.model.energy_at] = 1.0
        if part == "whole":
            born_slopes, gradient = born(self.model, batch, distance, network.outputs, gradient)
            slopes = slopes + born_slopes
        slopes = slopes.index_add(0, near, network.slopes(gradient))
        pulls = (slopes / distance).unsqueeze(-1) * vectors
        return torch.zeros_like(batch.positions).index_add(0, batch.first, -pulls).index_add(0, batch.second, pulls)


class _Network:
    """Outputs [A, K] of the network for one batch, and the slopes of any function of them."""

    def __init__(self, engine: FlatForces, batch: AtomBatch, first: Tensor, second: Tensor, distance: Tensor) -> None:
        model = engine.model
        self.model = model
        self.cells = engine.filters.locate(distance.unsqueeze(0), first.numpy(), second.numpy())
        self.blocks = [cast(InteractionBlock, block) for block in model.blocks]
        features = model.atom_features(batch.kinds, batch.parameters).unsqueeze(0)
        self.kept = []
        for block in self.blocks:
            table, values = engine.filters.table(block), block.values(features)
            y, slope = value_and_slope(block.activation, block.update_in(messages(table, values, self.cells)))
            features = features + block.update_out(y)
            self.kept.append((table, values, slope))
        y, self.head_slope = value_and_slope(model.activation, model.head_in(features))
        self.outputs = model.energy_scale * model.head_out(y).squeeze(0)

    def slopes(self, gradient: Tensor) -> Tensor:
        """dE/dd [P] of a function whose gradient with respect to the outputs is ``gradient`` [A, K]."""
        model = self.model
        back = (gradient @ (model.energy_scale * model.head_out.weight)).unsqueeze(0)
        back = (back * self.head_slope) @ model.head_in.weight
        total = torch.zeros(1, self.cells.cell.shape[1], dtype=gradient.dtype)
        for level in reversed(range(len(self.blocks))):
            block, (table, values, slope) = self.blocks[level], self.kept[level]
            pulls = ((back @ block.update_out.weight) * slope) @ block.update_in.weight
            found, reactions = pull(table, values, pulls, self.cells, "all" if level > 0 else "none")
            total = total + found
            if level > 0:
                back = back + reactions @ block.values.weight
        return total.squeeze(0)


def born(
    model: TransferableISSNet, batch: AtomBatch, distance: Tensor, outputs: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes dE/dd [Q] of the Born energy, and ``gradient`` [A, K] with its pull on the outputs added."""
    first, second = batch.first, batch.second
    charge, offset = batch.parameters[:, CHARGE], batch.parameters[:, OFFSET_RADIUS]
    found = pair_slopes(
        distance.numpy(), first.numpy(), second.numpy(), offset.numpy(), batch.parameters[:, SCALED_RADIUS].numpy()
    )
    sums, one, other = torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])
    with torch.enable_grad():
        sums = sums.requires_grad_(True)
        exact = screening.radii_of(sums, offset.double())
        (bend,) = torch.autograd.grad(exact.sum(), sums)
    radii, bend = exact.detach().to(distance.dtype), bend.to(distance.dtype)
    scaled, shield = model.scale(radii, outputs)
    product = scaled[first] * scaled[second]
    shields = 0.125 * (shield[first] + shield[second])
    square = distance * distance
    scaled_square = square * shields / product
    decay = torch.exp(-scaled_square)
    f_square = square + product * decay
    energy = model.strength * charge[first] * charge[second] / f_square.sqrt()
    weight = -0.5 * energy / f_square
    g_product = weight * decay * (1.0 + scaled_square)
    per_scaled = -0.5 * model.strength * charge * charge / (scaled * scaled)
    per_scaled = per_scaled.index_add(0, first, g_product * scaled[second])
    per_scaled = per_scaled.index_add(0, second, g_product * scaled[first])
    surface = -6.0 * screening.surface_energies(model.surface_factor, offset, radii) / radii
    per_radius = (per_scaled * (scaled / radii) + surface) * bend
    direct = 2.0 * weight * distance * (1.0 - shields * decay)
    slopes = direct + per_radius[first] * one + per_radius[second] * other
    added = []
    for column in range(outputs.shape[1]):
        change = gradient[:, column]
        if column == model.radius_at:
            change = change + per_scaled * radii * _factor_slope(outputs[:, column])
        if column == model.screening_at:
            per_shield = -0.125 * weight * square * decay
            pulls = torch.zeros_like(charge).index_add(0, first, per_shield).index_add(0, second, per_shield)
            change = change + pulls * _factor_slope(outputs[:, column])
        added.append(change)
    return slopes, torch.stack(added, dim=1)


def _factor_slope(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return 1.8 * s * (1.0 - s)
