"""Stitching two learned force fields: which blocks of one can serve the other, or another peptide?

An ISSNet is cut at the features of its atoms: after the embedding, and after each block,

    bottom_l(r) = h^l  [b, n, F]          top_l(h, r) = blocks above l, head, sum over atoms -> energy [b]

with the atoms of one molecule, which both networks must know by type. Distances, filters and envelopes above the cut
are A's own. All channels of an ISSNet are scalars, so that an affine stitch keeps the energy invariant under
rotations; models with vector channels need a ``VectorStitch`` there.

The error is that of the forces, root mean square over held-out frames, kJ/mol/nm: -d/dr of the stitched energy, through
bottom, stitch and top.

Why not hooks: a block of an ISSNet returns the change of its features, not the features.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.models.atom_pairs import half_pairs, pair_distances, pair_vectors
from mlsim.models.contract import create
from mlsim.models.issnet.solvation import ISSNet
from mlsim.models.radial import smooth_envelope
from mlsim.repr.stitching.cut import Cut, Inputs
from mlsim.repr.stitching.tasks import Network, Task

_EMBEDDING = "embedding"


class ForceFieldCut(Cut):
    """An ISSNet on the atoms of one molecule; layers ``embedding``, ``block.1``, ...

    Parameters
    ----------
    model : ISSNet
        Not changed.
    atoms : ForceFrames
        Their atom types and charges are used.

    Raises
    ------
    ArtifactError
        If the model does not know an atom type.
    """

    def __init__(self, model: ISSNet, atoms: ForceFrames) -> None:
        if not isinstance(model, ISSNet):
            raise InputError(f"stitching of force fields: expected an ISSNet, got {type(model).__name__}")
        self.model = model.eval()
        self._atoms = atoms
        parameter = next(model.parameters())
        self._types = model.type_indices(atoms.atom_types).to(parameter.device)
        self._charges = torch.tensor(atoms.charges, dtype=parameter.dtype, device=parameter.device)
        self.layers = (_EMBEDDING, *(f"block.{k + 1}" for k in range(len(model.blocks))))

    def bottom(self, layer: str, inputs: Inputs) -> Tensor:
        positions = _positions(inputs)
        features = self.model.atom_features(self._types, self._charges).expand(len(positions), -1, -1)
        return self._blocks(features, positions, 0, self._depth(layer))

    def top(self, layer: str, hidden: Tensor, inputs: Inputs) -> Tensor:
        positions = _positions(inputs)
        features = self._blocks(hidden, positions, self._depth(layer), len(self.model.blocks))
        return self.model.atom_energies(features).sum(-1)

    def whole(self, inputs: Inputs) -> Tensor:
        return self.model(_positions(inputs), self._types, self._charges)

    def randomised(self, seed: int) -> ForceFieldCut:
        fresh = create(self.model.kind, self.model.config.model_dump(), seed)
        assert isinstance(fresh, ISSNet)
        return ForceFieldCut(fresh.to(next(self.model.parameters()).dtype), self._atoms)

    def _depth(self, layer: str) -> int:
        return self.layers.index(self.require(layer))

    def _blocks(self, features: Tensor, positions: Tensor, start: int, end: int) -> Tensor:
        """Features after the blocks ``start`` to ``end`` (exclusive)."""
        if start == end:
            return features
        first, second = half_pairs(positions.size(1), positions.device)
        distance = pair_distances(pair_vectors(positions, first, second))
        basis = self.model.radial(distance)
        envelope = smooth_envelope(distance, self.model.cutoff_nm)
        for block in list(self.model.blocks)[start:end]:
            features = features + block(features, basis, envelope, first, second)
        return features


class ForceMatch(Task):
    """Forces on frames of one molecule.

    Parameters
    ----------
    train, test : ForceFrames
        Of the same molecule; no block of time in both.
    """

    unit: ClassVar[str] = "kJ/mol/nm"

    def __init__(self, train: ForceFrames, test: ForceFrames) -> None:
        if train.atom_types != test.atom_types:
            raise InputError("frames: training and held-out frames are of different atoms; split one set of frames")
        self._train = [torch.tensor(a, dtype=torch.float32) for a in (train.positions, train.forces)]
        self._test = [torch.tensor(a, dtype=torch.float32) for a in (test.positions, test.forces)]
        self._scale = float(self._train[1].square().mean())
        self.n_train = len(train)

    def inputs(self, index: Tensor) -> Inputs:
        return self._train[0][index]

    def loss(self, run: Network, index: Tensor) -> Tensor:
        forces = forces_of(run, self._train[0][index])
        return (forces - self._train[1][index]).square().mean() / self._scale

    @torch.no_grad()
    def error(self, run: Network) -> float:
        total = 0.0
        for positions, labels in zip(self._test[0].split(128), self._test[1].split(128), strict=True):
            total += float((forces_of(run, positions) - labels).square().sum())
        return float((total / self._test[1].numel()) ** 0.5)

    def held_out(self, count: int) -> Inputs:
        return self._test[0][:count]


def forces_of(run: Network, positions: Tensor) -> Tensor:
    """Forces [b, n, 3] (kJ/mol/nm), minus the gradient of the energies [b] that ``run`` gives at ``positions``.

    Under ``torch.no_grad()`` they come without a graph.
    """
    keep_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        positions = positions.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(run(positions).sum(), positions, create_graph=keep_graph)
    return -gradient


def _positions(inputs: Inputs) -> Tensor:
    if not isinstance(inputs, Tensor) or inputs.ndim != 3 or inputs.shape[-1] != 3:
        raise InputError("force field: expected positions [b, n, 3], nm")
    return inputs
