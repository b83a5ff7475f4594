"""PyTorch Geometric's SchNet at the size of an ISSNet, for one molecule: what the speed benchmarks compare with.

Features, filters, interactions, Gaussians and cutoff are those of the ISSNet; lengths are angstrom inside, as its
authors use it. The list of pairs is made once (all pairs of a small molecule) and masked by the cutoff, which is
quicker than its own radius graph and needs no compiled extension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.nn.models import SchNet

from mlsim.models.issnet.solvation import ISSNetSettings
from mlsim.units import ANGSTROM_PER_NM


class PygEnergy:
    """Energies and forces of conformations; an ``Evaluator`` of :mod:`mlsim.deploy.bind`.

    Parameters
    ----------
    config : ISSNetSettings
        The size.
    n_atoms : int
    seed : int
        Of the random weights: the cost does not depend on them.
    scale : float
        Factor on the energy, small so that random weights do not disturb a simulation.
    """

    def __init__(self, config: ISSNetSettings, n_atoms: int, seed: int = 1, scale: float = 1e-3) -> None:
        torch.manual_seed(seed)
        self.n_atoms, self.scale = n_atoms, scale
        self._pairs = torch.combinations(torch.arange(n_atoms)).t()
        self._edges: dict[int, Tensor] = {}
        self.cutoff = config.cutoff_nm * ANGSTROM_PER_NM
        self.net = SchNet(
            hidden_channels=config.features,
            num_filters=config.features,
            num_interactions=config.blocks,
            num_gaussians=config.n_radial,
            cutoff=self.cutoff,
            interaction_graph=self._graph,
        )
        self.types = torch.arange(n_atoms) % 90 + 1

    def _graph(self, positions: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        copies = len(positions) // self.n_atoms
        if copies not in self._edges:
            offsets = (torch.arange(copies) * self.n_atoms).view(-1, 1, 1)
            both = torch.cat([self._pairs, self._pairs.flip(0)], dim=1)
            self._edges[copies] = (both + offsets).permute(1, 0, 2).reshape(2, -1)
        edges = self._edges[copies]
        length = (positions[edges[0]] - positions[edges[1]]).norm(dim=-1)
        near = length < self.cutoff
        return edges[:, near], length[near]

    def energies(self, positions: Tensor) -> Tensor:
        """Energies [R] of positions [R, N, 3] (nm)."""
        copies = len(positions)
        batch = torch.arange(copies).repeat_interleave(self.n_atoms)
        flat = positions.reshape(-1, 3) * ANGSTROM_PER_NM
        result: Tensor = self.net(self.types.repeat(copies), flat, batch).squeeze(-1) * self.scale
        return result

    def energy_forces(self, positions: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """One conformation [N, 3] (nm)."""
        energies, forces = self.evaluate(positions[None])
        return float(energies[0]), forces[0]

    def evaluate(self, positions: NDArray[Any], threads: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Many conformations [R, N, 3] (nm) in one batch."""
        x = torch.tensor(positions, dtype=self.net.lin1.weight.dtype, requires_grad=True)
        energies = self.energies(x)
        (gradient,) = torch.autograd.grad(energies.sum(), x)
        return energies.detach().numpy().astype(np.float64), -gradient.numpy().astype(np.float64)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (id(self),)


_ALIVE: dict[int, PygEnergy] = {}


def kept(evaluator: PygEnergy) -> PygEnergy:
    """Keep an evaluator for the life of the process: ``PythonForce`` pickles its callable, and gets this one back."""
    _ALIVE[id(evaluator)] = evaluator
    return evaluator


def _same(key: int) -> PygEnergy:
    return _ALIVE[key]
