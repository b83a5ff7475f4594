"""Force matching over many peptides: one network, batches of mixed sizes, every peptide alike.

For peptides p with F_p frames of N_p atoms the loss is

    L = sum_p (1 / P) < |f - F|^2 / (3 N_p) >_p / S,      S = sum_p (1 / P) < |f|^2 / (3 N_p) >_p

the mean over peptides of their mean squared errors per component. A peptide for which there are more nanoseconds counts
no more than another, only more precisely; one with more atoms counts no more either. Every frame is seen once per
epoch: frames are drawn from all peptides at random, and weighted by F / (P F_p).

For forms in which the network's energy stands beside an unchanged Born model, the labels are the difference from it,
and it is not computed again (``models.transferable.flat_forces``).

Symbols: f ``labels``, F ``forces``, S ``scale``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.dataset import batches
from mlsim.errors import InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.transferable.peptide_arrays import PeptideArrays
from mlsim.models.transferable.atom_batch import AtomBatch, PairList, batch_of
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.models.transferable.flat_forces import FlatForces
from mlsim.models.transferable.peptide_solvent import TransferableISSNet
from mlsim.records import digest_of
from mlsim.shapes import Floats

#: Frames per batch when nothing is learned.
_FRAMES = 64


def stands_beside(model: TransferableISSNet) -> bool:
    """Whether Born stands beside the network unchanged, so that its forces can be taken off the labels."""
    return model.born and model.radius_at < 0 and model.screening_at < 0


def solvent_forces(model: TransferableISSNet, atoms: SolventAtoms, positions: Floats) -> Floats:
    """Forces [F, N, 3] (kJ/mol/nm) of the whole solvent on one molecule at positions [F, N, 3] (nm)."""
    engine, pairs = FlatForces(model), PairList()
    dtype = model.embedding.dtype
    kinds = model.type_indices(atoms.kinds)
    parameters = torch.tensor(atoms.parameters, dtype=dtype)
    parts = []
    for part in batches.consecutive(len(positions), _FRAMES):
        chosen = np.asarray(positions[part])
        batch = batch_of(list(chosen), [kinds] * len(chosen), [parameters] * len(chosen), pairs)
        with torch.no_grad():
            parts.append(engine(batch).numpy().reshape(chosen.shape))
    return np.concatenate(parts)


class ManyPeptides:
    """The objective of a fit to many peptides.

    Parameters
    ----------
    model : TransferableISSNet
        On the CPU.
    peptides : sequence of PeptideArrays
        With what stands beside the network taken off the labels, if :func:`stands_beside`.
    """

    unit = "projected force error, peptides alike (kJ/mol/nm)"

    def __init__(self, model: TransferableISSNet, peptides: Sequence[PeptideArrays]) -> None:
        self.model, self.peptides = model, tuple(peptides)
        lacking = [p.name for p in peptides if len(p) == 0]
        if lacking or not peptides:
            raise InputError(f"training frames: expected some of every peptide, got none of {', '.join(lacking)}")
        self.engine, self._pairs = FlatForces(model), PairList()
        self._forces = self.engine.of_network if stands_beside(model) else self.engine
        dtype = model.embedding.dtype
        self._kinds = [model.type_indices(p.atoms.kinds) for p in peptides]
        self._parameters = [torch.tensor(p.atoms.parameters, dtype=dtype) for p in peptides]
        counts = np.array([len(p) for p in peptides])
        self._start = np.concatenate([[0], np.cumsum(counts)])
        self.n_frames = int(counts.sum())
        self._weight = self.n_frames / (len(peptides) * counts)
        self.scale = float(np.mean([np.mean(np.square(p.labels, dtype=np.float64)) for p in peptides]))

    def batch(self, owners: NDArray[np.int64], positions: list[Floats]) -> AtomBatch:
        """Conformations [N_p, 3] (nm) of the peptides number ``owners`` as one batch."""
        return batch_of(positions, [self._kinds[p] for p in owners], [self._parameters[p] for p in owners], self._pairs)

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Weighted mean squared force error of the frames ``index`` over the mean square of all labels."""
        index = np.sort(index)
        owners = np.searchsorted(self._start, index, side="right") - 1
        inside = index - self._start[owners]
        positions = [self.peptides[p].positions[k] for p, k in zip(owners, inside, strict=True)]
        labels = np.concatenate([self.peptides[p].labels[k] for p, k in zip(owners, inside, strict=True)])
        batch = self.batch(owners, positions)
        errors = (self._forces(batch) - torch.from_numpy(labels).to(batch.positions.dtype)).square().mean(dim=1)
        sizes = np.array([len(x) for x in positions])
        weights = np.repeat(self._weight[owners] / sizes, sizes) / (len(index) * self.scale)
        return (errors * torch.from_numpy(weights).to(errors.dtype)).sum()

    def readable(self, loss: float) -> float:
        """Root-mean-square error, kJ/mol/nm."""
        return float(np.sqrt(loss * self.scale))

    def held_out(self) -> NDArray[np.float64]:
        """Mean squared errors of the held-out frames, (kJ/mol/nm)^2 [P], one per peptide."""
        found = np.zeros(len(self.peptides))
        for number, peptide in enumerate(self.peptides):
            positions = peptide.held_out.frames.positions
            total = 0.0
            for part in batches.consecutive(len(positions), _FRAMES):
                chosen = list(positions[part])
                with torch.no_grad():
                    forces = self._forces(self.batch(np.full(len(chosen), number), chosen)).numpy()
                total += float(np.square(forces - peptide.held_labels[part].reshape(-1, 3), dtype=np.float64).sum())
            found[number] = total / peptide.held_labels.size
        return found

    def validate(self) -> float:
        """Root of the mean over peptides of their held-out mean squared errors, kJ/mol/nm."""
        return float(np.sqrt(self.held_out().mean()))

    def identity(self, settings: TrainSettings) -> str:
        """Digest of all that decides the result."""
        model = self.model
        parts = [model.kind, model.config.digest(), str(model.seed), str(model.embedding.dtype), settings.identity()]
        parts += [f"{p.name}:{p.digest}:{len(p)}" for p in self.peptides]
        parts += [f"taught by {name}" for name in self.peptides[0].teachers]
        return digest_of("/".join(parts))
