"""The bound network as a program of torch operations with static shapes: what a CUDA graph can hold.

A graph is recorded once and replayed: every operation must work on the same memory, with the same shapes, without a
look at a number in between. So all pairs of a molecule take part at every step, those beyond the cutoff with a filter
of zero; sums over neighbours are sums over a fixed axis (each atom has N - 1 of them) and not scattered additions,
whose order on a GPU changes from call to call; the gradient is written out, as in the compiled kernel, and needs no
autograd (whose backward pass runs on another thread than the recording).

Equations, symbols and the multiplied-out residual stream: :mod:`mlsim.deploy.kernel.network_loops`; the numbers come
from the same bound network (:func:`mlsim.deploy.kernel.compiled.bind`), so kernel and program can be compared to the
last digits. Distances and forces are in float64, everything between in the type of the network.

Symbol -> variable: m ``messages`` · a ``hidden``, act' ``slopes`` · W ``value``, dW/dt ``change`` · t ``fraction``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlsim.deploy.kernel import network_loops
from mlsim.deploy.kernel.pair_loops import PANEL, Network


class StaticProgram:
    """Energies and forces of copies of one molecule; no state changes in a call.

    Parameters
    ----------
    network : Network
        As bound for the compiled kernel.
    device : str
    """

    def __init__(self, network: Network, device: str = "cpu") -> None:
        net, n = network, network.atoms
        dtype = getattr(torch, net.table.dtype.name)
        self.n_atoms, self.blocks, self.activation = n, net.blocks, net.activation
        self.cutoff, self.inverse_spacing, self.tiny, self.intervals = (
            net.cutoff,
            net.inverse_spacing,
            net.tiny,
            net.intervals,
        )

        def constant(array: Any) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

        panels = net.table.reshape(net.blocks, net.intervals, -1, 4, PANEL)
        self.table = constant(panels.transpose(0, 1, 3, 2, 4).reshape(net.blocks, net.intervals, 4, net.features))
        rows = net.offsets.reshape(2 * net.blocks + 1, net.rows, net.features)[:, :n]
        self.inputs, self.biases = constant(rows[: net.blocks]), constant(rows[net.blocks : -1])
        self.head_bias, self.readout = constant(rows[-1]), constant(net.readout)
        self.updates = [constant(_matrix(net, 4 * b)) for b in range(net.blocks)]
        self.through = [constant(_matrix(net, 4 * b + 2)) for b in range(net.blocks)]
        self.head = constant(_matrix(net, 4 * net.blocks))
        first, second = np.tril_indices(n, -1)
        index = np.zeros((n, n), dtype=np.int64)
        index[first, second] = index[second, first] = np.arange(len(first))
        others = ~np.eye(n, dtype=bool)
        sign = np.where(np.arange(n)[:, None] > np.arange(n), 1.0, -1.0)

        def whole(array: Any) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.int64, device=device)

        self.first, self.second = whole(first), whole(second)
        self.pair_of = whole(index[others])  # [N (N - 1)]
        self.partner = whole(np.broadcast_to(np.arange(n), (n, n))[others])
        self.sign = torch.as_tensor(sign[others], dtype=torch.float64, device=device)[:, None]

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [R] (kJ/mol) and forces [R, N, 3] (kJ/mol/nm), float64, of positions [R, N, 3] (nm, float64)."""
        copies, dtype = positions.shape[0], self.table.dtype
        vectors = positions.index_select(1, self.first) - positions.index_select(1, self.second)
        square = vectors.square().sum(-1) + self.tiny
        length = square.sqrt()
        inside = (square < self.cutoff * self.cutoff).to(dtype).unsqueeze(-1)
        location = length * self.inverse_spacing
        cell = location.to(torch.int64).clamp(0, self.intervals - 1)
        fraction = (location - cell).to(dtype).clamp(0.0, 1.0).unsqueeze(-1)
        filters = [self._filter(b, cell, fraction, inside) for b in range(self.blocks)]

        features: list[Tensor] = []  # x of each block
        hidden: list[Tensor] = []
        slopes: list[Tensor] = []
        for b in range(self.blocks):
            x = self.inputs[b].expand(copies, -1, -1)
            if b > 0:
                x = x + torch.cat(hidden, -1) @ self.through[b]
            features.append(x)
            messages = self._gather(filters[b][0], x)
            y, slope = self._activate(messages @ self.updates[b] + self.biases[b])
            hidden.append(y)
            slopes.append(slope)
        y, slope = self._activate(torch.cat(hidden, -1) @ self.head + self.head_bias)
        probe = (positions * 0.0).sum((1, 2))
        energies = (y * self.readout).sum((1, 2)).to(torch.float64) + probe

        pulls = list(((slope * self.readout) @ self.head.t()).split(self.table.shape[-1], -1))
        change = torch.zeros_like(length)
        for b in reversed(range(self.blocks)):
            value, rise = filters[b]
            g = (pulls[b] * slopes[b]) @ self.updates[b].t()
            x = features[b]
            both = g.index_select(1, self.first) * x.index_select(1, self.second)
            both = both + g.index_select(1, self.second) * x.index_select(1, self.first)
            change = change + (rise * both).sum(-1).to(torch.float64)
            if b > 0:
                back = (self._gather(value, g) @ self.through[b].t()).split(self.table.shape[-1], -1)
                pulls = [pull + back[c] if c < b else pull for c, pull in enumerate(pulls)]
        pushes = (-change * self.inverse_spacing / length).unsqueeze(-1) * vectors
        forces = (pushes.index_select(1, self.pair_of) * self.sign).reshape(copies, self.n_atoms, -1, 3).sum(2)
        energies = energies + (forces * 0.0).sum((1, 2))
        return energies, forces + probe[:, None, None]

    def _filter(self, block: int, cell: Tensor, fraction: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        c = self.table[block].index_select(0, cell.reshape(-1)).reshape(*cell.shape, 4, -1)
        c0, c1, c2, c3 = c.unbind(-2)
        value = c0 + fraction * (c1 + fraction * (c2 + fraction * c3))
        change = c1 + fraction * (2.0 * c2 + 3.0 * fraction * c3)
        return value * inside, change * inside

    def _gather(self, weights: Tensor, features: Tensor) -> Tensor:
        """Sum over the N - 1 partners of each atom: weights [R, P, F], features [R, N, F] -> [R, N, F]."""
        terms = weights.index_select(1, self.pair_of) * features.index_select(1, self.partner)
        return terms.reshape(len(weights), self.n_atoms, -1, terms.shape[-1]).sum(2)

    def _activate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if self.activation == network_loops.TANH:
            y = torch.tanh(z)
            return y, 1.0 - y * y
        s = torch.sigmoid(z)
        y = z * s
        return y, s + y * (1.0 - s)


def _matrix(net: Network, number: int) -> Any:
    """Matrix ``number`` of a bound network, unpacked to [depth, width]."""
    start = int(net.places[number])
    stop = int(net.places[number + 1]) if number + 1 < len(net.places) else net.weights.size
    packed = net.weights[start:stop]
    width = net.features
    depth = packed.size // width
    return packed.reshape(width // PANEL, depth, PANEL).transpose(1, 0, 2).reshape(depth, width)
