"""What every learned energy promises, and how it is named, made and bound to a molecule.

A model maps the geometry of one kind of molecule, in batches, to an energy

    E[b] = forward(positions[b], types, charges)                (kJ/mol)

that is invariant under rotation, translation, reflection and the exchange of equal atoms, is twice
continuously differentiable in the positions, and can be compiled by ``torch.jit.script``. Forces are minus its
gradient, so that they are conservative by construction. The additive constant of E has no meaning unless the
model's own documentation gives it one.

A new model is one file with a subclass of :class:`AbstractEnergyModel`, one line in ``MODELS`` (from outside the
package an entry point of the group ``mlsim.models``, or a call of :func:`register`), and one subclass of
:class:`mlsim.testing.model_contract.ModelContract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from mlsim.errors import ArtifactError, SettingsError
from mlsim.names import Registry
from mlsim.settings import Settings

#: Atom classes of Amber ff14SB, the default vocabulary of a model.
# fmt: off
AMBER_FF14SB_CLASSES: tuple[str, ...] = (
    "2C", "3C", "C", "C*", "C8", "CA", "CB", "CC", "CN", "CO", "CR", "CT", "CV", "CW", "CX",
    "H", "H1", "H4", "H5", "HA", "HC", "HO", "HP", "HS",
    "N", "N2", "N3", "NA", "NB", "O", "O2", "OH", "S", "SH",
)
# fmt: on


class ModelSettings(Settings):
    """Settings every model has; the concrete ones derive from it."""

    vocabulary: tuple[str, ...] = AMBER_FF14SB_CLASSES


class AbstractEnergyModel(nn.Module):
    """Base of the learned energies.

    Attributes
    ----------
    kind : str
        Name under which the registry knows the class.
    settings_type : type
        The frozen settings class of ``config``.
    role : str
        ``solvation``: the energy stands on the molecule's own mechanics; ``potential``: it stands alone.
    config : ModelSettings
        Everything needed to build the same network again.
    seed : int
        Root seed of the initial parameters.
    """

    kind: ClassVar[str]
    settings_type: ClassVar[type[ModelSettings]]
    role: ClassVar[str] = "solvation"

    def __init__(self, config: ModelSettings, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed

    def forward(self, positions: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """Energies of a batch.

        Parameters
        ----------
        positions : Tensor [B, N, 3], nm
        types : int64 Tensor [N]
            Indices into the vocabulary, see :meth:`type_indices`.
        charges : Tensor [N], e

        Returns
        -------
        Tensor [B], kJ/mol
        """
        raise NotImplementedError

    @torch.jit.unused
    def energy_and_forces(self, positions: Tensor, types: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [B] (kJ/mol) and forces [B, N, 3] (kJ/mol/nm), both differentiable in the parameters.

        The default differentiates :meth:`forward`; a model may override it with a quicker route to the same numbers.
        Under ``torch.no_grad()`` both come without a graph.
        """
        keep_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            positions = positions.detach().requires_grad_(True)
            energy = self.forward(positions, types, charges)
            (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=keep_graph)
        return (energy if keep_graph else energy.detach()), -gradient

    @torch.jit.unused
    def type_indices(self, atom_types: Sequence[str]) -> Tensor:
        """Indices of the atom types in the vocabulary.

        Parameters
        ----------
        atom_types : sequence of str, length N

        Returns
        -------
        int64 Tensor [N]

        Raises
        ------
        ArtifactError
            If the vocabulary lacks a type; the message names it.
        """
        position = {name: index for index, name in enumerate(self.config.vocabulary)}
        unknown = sorted({name for name in atom_types if name not in position})
        if unknown:
            raise ArtifactError(
                f"atom types {', '.join(map(repr, unknown))} are unknown to this {self.kind} model; "
                f"it knows {' '.join(self.config.vocabulary)}. Train it on a molecule that has them"
            )
        return torch.tensor([position[name] for name in atom_types], dtype=torch.int64)


class BoundEnergy(nn.Module):
    """A model together with the atoms of one molecule: a function of positions only.

    Parameters
    ----------
    model : AbstractEnergyModel
    types : int64 Tensor [N]
    charges : Tensor [N], e
    """

    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        types: Tensor
        charges: Tensor

    def __init__(self, model: AbstractEnergyModel, types: Tensor, charges: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("types", types.to(torch.int64))
        self.register_buffer("charges", charges.to(torch.float64))

    def forward(self, positions: Tensor) -> Tensor:
        """Energy (kJ/mol): a scalar for positions [N, 3], [B] for [B, N, 3] (nm)."""
        charges = self.charges.to(positions.dtype)
        if positions.dim() == 2:
            return self.model(positions.unsqueeze(0), self.types, charges)[0]
        return self.model(positions, self.types, charges)


def bind(model: AbstractEnergyModel, atom_types: Sequence[str], charges: Any) -> BoundEnergy:
    """Bind ``model`` to atoms given by their type names and charges ([N], e; array or tensor).

    Raises
    ------
    ArtifactError
        If a type is unknown to the model, or there is not one charge per atom.
    """
    values = torch.as_tensor(charges, dtype=torch.float64)
    if values.shape != (len(atom_types),):
        raise ArtifactError(f"charges: expected one per atom ([{len(atom_types)}], e), got shape {list(values.shape)}")
    return BoundEnergy(model, model.type_indices(atom_types), values)


MODELS: Registry[type[AbstractEnergyModel]] = Registry(
    "model kind",
    "mlsim.models",
    {
        "ebm": "mlsim.models.ebm.energy_based:EnergyBasedModel",
        "issnet": "mlsim.models.issnet.solvation:ISSNet",
        "transferable": "mlsim.models.transferable.peptide_solvent:TransferableISSNet",
    },
    lambda found: isinstance(found, type) and issubclass(found, AbstractEnergyModel),
    "a subclass of mlsim.models.contract.AbstractEnergyModel",
    SettingsError,
)


def register(kind: str, target: str) -> None:
    """Make a model known by name in this process; ``target`` is ``"package.module:Class"``, imported at first use."""
    MODELS.register(kind, target)


def kinds() -> tuple[str, ...]:
    """Names of the known models."""
    return MODELS.names()


def model_type(kind: str) -> type[AbstractEnergyModel]:
    """The class registered as ``kind``.

    Raises
    ------
    SettingsError
        If there is none; the message lists those that exist.
    """
    return MODELS.get(kind)


def create(kind: str, config: Mapping[str, Any], seed: int = 0) -> AbstractEnergyModel:
    """Build a model with fresh parameters.

    Parameters
    ----------
    kind : str
        A name from :func:`kinds`.
    config : mapping
        Model settings; missing keys take their defaults, unknown ones are refused.
    seed : int
        Root seed of the initial parameters.
    """
    found = model_type(kind)
    settings = found.settings_type.parse(dict(config), f"{kind} model")
    return found(settings, seed)
