"""Population matching over many peptides: the second stage of a solvent for any peptide.

As :mod:`mlsim.fitting.solvent.population_matching`, with one network and several molecules. For peptides p with
explicit frames x and frames y of a run with the network theta_0, both under the same static bias,

    G_p(r) = -beta [ W_theta(r) - W_theta0(r) ]
    L = L_forces + lambda (1 / P) sum_p < log(1 + exp(-(G_p(x) - G_p(y)))) >_p

Peptides with equilibrium frames are fewer than those with forces: forces need no weights, populations need runs that
have forgotten their start. What is learned on them is carried to other peptides by the shared kinds of atoms, and the
force loss over all peptides keeps the correction small where nothing asks for it.

Symbols: lambda ``weight``, P number of ``peptides``, G ``log_ratio``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.dataset import batches
from mlsim.errors import InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.population_matching import Ensemble, PopulationSettings
from mlsim.fitting.transferable.many_peptides import ManyPeptides
from mlsim.models.transferable.atom_batch import AtomBatch, PairList, batch_of
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.models.transferable.flat_forces import FlatForces
from mlsim.models.transferable.peptide_solvent import TransferableISSNet
from mlsim.records import digest_of_all
from mlsim.seeds import numpy_stream
from mlsim.units import kT

#: Conformations per batch when nothing is learned, and pairs of a validation per peptide.
_FRAMES, _VALIDATION_PAIRS = 256, 4096


@dataclass(frozen=True, eq=False)
class PeptideEnsembles:
    """The two ensembles of one peptide, each as (training, held-out) frames.

    Attributes
    ----------
    name : str
        Sequence.
    atoms : SolventAtoms
    explicit, generated : pair of Ensemble
        In explicit water, and of a run with the model as it was before this stage.
    """

    name: str
    atoms: SolventAtoms
    explicit: tuple[Ensemble, Ensemble]
    generated: tuple[Ensemble, Ensemble]


class ManyPopulations:
    """Objective of :func:`mlsim.fitting.loop.run`: forces of many peptides plus populations of some.

    Parameters
    ----------
    model : TransferableISSNet
        With the parameters theta_0 of the runs.
    forces : ManyPeptides
        The first stage's objective for the same model.
    peptides : sequence of PeptideEnsembles
    temperature_K : float
    settings : PopulationSettings
        ``pairs`` is the number of pairs per step of all peptides together.
    seed : int

    Raises
    ------
    InputError
        If there is no peptide, or fewer pairs than peptides.
    """

    unit = "force loss + weight x pair loss"

    def __init__(
        self,
        model: TransferableISSNet,
        forces: ManyPeptides,
        peptides: Sequence[PeptideEnsembles],
        temperature_K: float,
        settings: PopulationSettings,
        seed: int,
    ) -> None:
        if not peptides or settings.pairs < len(peptides):
            raise InputError(
                f"population matching: expected at least one peptide and one pair for each, got {len(peptides)} "
                f"peptides and {settings.pairs} pairs"
            )
        self.forces, self.n_frames = forces, forces.n_frames
        self.weight, self.seed, self.inverse_kT = settings.weight, seed, 1.0 / kT(temperature_K)
        self.pairs = settings.pairs // len(peptides)
        engine = FlatForces(model)
        self._train = [(_Side(p, p.explicit[0], engine), _Side(p, p.generated[0], engine)) for p in peptides]
        self._valid = [(_Side(p, p.explicit[1], engine), _Side(p, p.generated[1], engine)) for p in peptides]

    def loss(self, index: NDArray[np.int64]) -> Tensor:
        """Force loss of the frames ``index`` plus lambda times the mean pair loss over peptides."""
        generator = numpy_stream(self.seed, f"populations.{int(index[0])}.{int(index[-1])}.{int(index.sum())}")
        pair = torch.stack([self._pair_loss(sides, self.pairs, generator) for sides in self._train]).mean()
        return self.forces.loss(index) + self.weight * pair

    def readable(self, loss: float) -> float:
        """The loss itself (dimensionless)."""
        return loss

    def validate(self) -> float:
        """Force loss plus lambda times pair loss on held-out frames (the same pairs at every call)."""
        return self.forces.validate() ** 2 / self.forces.scale + self.weight * float(np.mean(self.pair_losses()))

    def pair_losses(self) -> NDArray[np.float64]:
        """Held-out pair loss of every peptide [P]; log 2 = 0.693: the ensembles cannot be told apart by G."""
        found = []
        for number, sides in enumerate(self._valid):
            generator = numpy_stream(self.seed, f"populations.valid.{number}")
            with torch.no_grad():
                parts = [self._pair_loss(sides, _FRAMES, generator).item() for _ in range(_VALIDATION_PAIRS // _FRAMES)]
            found.append(float(np.mean(parts)))
        return np.array(found)

    def _pair_loss(self, sides: tuple[_Side, _Side], count: int, generator: np.random.Generator) -> Tensor:
        x, y = (side.change(side.ensemble.draw(count, generator)) for side in sides)
        log_ratio = -self.inverse_kT * (x - y)
        return torch.nn.functional.softplus(-log_ratio).mean()

    def identity(self, settings: TrainSettings) -> str:
        """Digest of all that decides the result."""
        parts: list[str | NDArray[np.generic]] = [self.forces.identity(settings)]
        parts.append(f"{self.weight}/{self.pairs}/{self.inverse_kT}")
        parts += [tensor.numpy() for _, tensor in sorted(self.forces.model.state_dict().items())]
        for side in (side for sides in (*self._train, *self._valid) for side in sides):
            parts += [side.name, np.ascontiguousarray(side.ensemble.positions), side.ensemble.weights]
        return digest_of_all(parts)


class _Side:
    """Frames of one ensemble of one peptide with the energies of theta_0."""

    def __init__(self, peptide: PeptideEnsembles, ensemble: Ensemble, engine: FlatForces) -> None:
        self.name, self.ensemble, self._engine, self._pairs = peptide.name, ensemble, engine, PairList()
        self._kinds = engine.model.kind_indices(peptide.atoms, peptide.name)
        self._parameters = torch.tensor(peptide.atoms.parameters, dtype=engine.model.embedding.dtype)
        parts = []
        with torch.no_grad():
            for part in batches.consecutive(len(ensemble.positions), _FRAMES):
                parts.append(engine.energies(self._batch(np.arange(len(ensemble.positions))[part])))
        self._before = torch.cat(parts)

    def change(self, index: NDArray[np.int64]) -> Tensor:
        """W_theta - W_theta0 of frames ``index``, kJ/mol."""
        return self._engine.energies(self._batch(index)) - self._before[torch.from_numpy(index)]

    def _batch(self, index: NDArray[np.int64]) -> AtomBatch:
        x = list(self.ensemble.positions[index])
        return batch_of(x, [self._kinds] * len(x), [self._parameters] * len(x), self._pairs)
