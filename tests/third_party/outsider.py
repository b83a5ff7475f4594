"""What another package might add to mlsim, one thing for every registry; it is known by its entry points only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from openmm import CustomNonbondedForce, HarmonicBondForce, System
from torch import Tensor

from mlsim.analysis.observables import CollectiveVariable
from mlsim.analysis.quantities import Quantity
from mlsim.analysis.uncertainty import Estimate
from mlsim.chem.solvent import WaterModel
from mlsim.errors import InputError
from mlsim.models.contract import AbstractEnergyModel, ModelSettings
from mlsim.models.radial import smooth_envelope
from mlsim.potentials.contract import Sum
from mlsim.potentials.vacuum import Vacuum
from mlsim.repr import Encoder, InputSettings
from mlsim.repr.encoder import fill
from mlsim.runs.coordinate import Axis, Coordinate
from mlsim.samplers.methods.langevin import ula
from mlsim.seeds import torch_stream
from mlsim.shapes import require_shape
from mlsim.units import COULOMB


@dataclass(frozen=True)
class Tether:
    """A spring between the first and the last atom, k in kJ/mol/nm^2."""

    k: float
    name: str = "tether"

    def prepare(self, molecule: Any) -> Any:
        return molecule

    def add_to(self, system: System, molecule: Any, placement: Any) -> None:
        force = HarmonicBondForce()
        force.addBond(0, molecule.n_atoms - 1, 1.0, self.k)
        placement.put(system, force, self.name)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "k": self.k}


def tether(argument: str | None, request: Any) -> Tether:
    """``tether:100``."""
    if argument is None:
        raise InputError("tether: expected a force constant, e.g. tether:100")
    return Tether(float(argument))


@dataclass(frozen=True)
class FixedBorn:
    """A generalized Born model with Born radii that do not change, R in nm."""

    radius_nm: float = 0.2
    name: str = "fixed-born"
    part: ClassVar[str] = "solvent"

    def prepare(self, molecule: Any) -> Any:
        return molecule

    def add_to(self, system: System, molecule: Any, placement: Any) -> None:
        force = CustomNonbondedForce(f"{self.scale}*q1*q2/sqrt(r^2+R*R*exp(-r^2/(4*R*R))); R={self.radius_nm}")
        force.addPerParticleParameter("q")
        for charge in molecule.charges:
            force.addParticle([float(charge)])
        placement.put(system, force, self.name)

    @property
    def scale(self) -> float:
        return -COULOMB * (1.0 - 1.0 / 78.5)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "radius_nm": self.radius_nm}


def fixed_born(argument: str | None, request: Any) -> Sum:
    """``fixed-born``: mechanics and this solvent."""
    return Sum.of("fixed-born", (Vacuum(), FixedBorn()))


class PairsSettings(ModelSettings):
    cutoff_nm: float = 0.8


class Pairs(AbstractEnergyModel):
    """A smooth sum over pairs: E = sum_{i<j} w_i w_j exp(-d_ij / 0.2 nm) within a cutoff."""

    kind: ClassVar[str] = "pairs"
    settings_type: ClassVar[type[ModelSettings]] = PairsSettings

    def __init__(self, config: PairsSettings, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.cutoff_nm = config.cutoff_nm
        count = len(config.vocabulary)
        self.weight = torch.nn.Parameter(5.0 * torch.rand(count, generator=torch_stream(seed, "pairs")) + 2.0)

    def forward(self, positions: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        n = positions.size(1)
        first, second = torch.triu_indices(n, n, 1, device=positions.device).unbind(0)
        between = positions.index_select(1, second) - positions.index_select(1, first)
        distance = between.square().sum(-1).sqrt()
        weight = self.weight.index_select(0, types) + charges.to(self.weight.dtype)
        pair = weight.index_select(0, first) * weight.index_select(0, second)
        return (pair * torch.exp(-distance / 0.2) * smooth_envelope(distance, self.cutoff_nm)).sum(-1)


class Projection(Encoder):
    """Rows of eight numbers through one matrix."""

    kind: ClassVar[str] = "projection"

    def __init__(self, matrix: torch.nn.Linear) -> None:
        self.matrix = matrix
        self.inputs = InputSettings()
        self.to("cpu")

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.matrix.out_features}

    def state(self) -> dict[str, Tensor]:
        return dict(self.matrix.state_dict())

    @classmethod
    def build(cls, config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> Projection:
        matrix = torch.nn.Linear(8, int(config["width"]))
        if state is not None:
            fill(matrix, state, "projection encoder")
        return cls(matrix)

    @property
    def layers(self) -> tuple[str, ...]:
        return ("linear", "tanh")

    @property
    def pools(self) -> tuple[str, ...]:
        return ("mean",)

    @property
    def dimension(self) -> int:
        return self.matrix.out_features

    def require(self, inputs: Any) -> Any:
        return require_shape(inputs, (None, 8), "inputs of the projection encoder")

    def encode_batch(self, inputs: Any, layer: str, pool: str) -> Tensor:
        features = self.matrix(torch.as_tensor(np.ascontiguousarray(inputs), dtype=torch.float32))
        return features if layer == "linear" else features.tanh()

    def move(self, device: torch.device) -> None:
        self.matrix.to(device)


def short_steps(log_density: Any, symmetry: Any, settings: Any) -> Any:
    """Langevin dynamics of short steps, as a sampler."""
    return ula(log_density, 0.01 * settings.length**2, project=symmetry.project)


def _height(positions: Any, topology: Any, observable: Any) -> Any:
    return positions[:, int(observable.selection), 2]


def _height_coordinate(topology: Any, observable: Any) -> Coordinate:
    return Coordinate(observable.text, "z1", ((int(observable.selection),),), Axis(-2.0, 2.0, False), width=0.1)


height = CollectiveVariable(False, "nm", _height, "index of an atom", r"\d+", coordinate=_height_coordinate)


def _largest_difference(reference: Any, candidate: Any, mask: Any) -> Estimate:
    return Estimate.unbounded(float(np.abs(candidate.probability - reference.probability).max()))


largest_difference = Quantity("largest difference", "", _largest_difference)

three_sites = WaterModel("amber14/tip3pfb.xml", "tip3p")
four_sites = WaterModel("amber14/tip4pfb.xml", "tip4pew")
