"""TransferableISSNet: a learned solvent for any peptide. Long range by physics, short range by a network.

A solvation free energy has two parts of very different reach. The polarisation of water by charges reaches over the
whole molecule and follows a dielectric; the shells of water around each group reach half a nanometre and follow no
formula. So the far part is generalized Born (``screening``), over all pairs, and the near part is a continuous-filter
network with a cutoff. The network sees atoms by their chemical kind and force-field parameters (``atoms``), and gives
up to three numbers per atom: an energy e_i, and phi_i and psi_i that scale the Born radius and the screening of pairs.

    h_i^0 = E[kind_i] + x_i V                    x: five parameters, brought to order one
    h_i^l = h_i^(l-1) + block_l(h^(l-1), d)_i    l = 1..L, pairs nearer than the cutoff, see ``issnet.schnet``
    (e, phi, psi)_i = act(H h_i^L + b_H) O
    W(r) = sum_i e_i + E_GB(r; phi, psi)         kJ/mol

Forms (``ISSNet`` itself is the first, without charge kinds):

=====================  ==========================================  ===========================
form                   the network gives                           beside it stands
=====================  ==========================================  ===========================
``alone``              e                                           nothing
``additive``           e                                           OBC2 as it is
``scaled``             phi                                         radii scaled
``screened``           phi, psi                                    radii and screening scaled
``scaled+additive``    e, phi                                      radii scaled
``screened+additive``  e, phi, psi                                 radii and screening scaled
=====================  ==========================================  ===========================

The last layer O begins at zero: an untrained model *is* OBC2 with the dielectric constant of its settings, and what is
learned is the difference. All features are distances, so W is the same for mirror images: what is learned from L-amino
acids holds for D. The energy of molecules that are further apart than the cutoff is the sum of theirs up to the
Coulomb interaction through the dielectric, which vanishes with distance; the additive constant has no meaning.

Kinds and charges that were not trained on are refused by name, never guessed.

Symbols: E ``embedding``, V ``parameter_weight``, H ``head_in``, O ``head_out``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mlsim.models.atom_pairs import half_pairs, pair_distances
from mlsim.models.contract import AbstractEnergyModel, BoundEnergy, ModelSettings
from mlsim.models.radial import radial_basis, smooth_envelope
from mlsim.models.schnet import InteractionBlock, activation, linear
from mlsim.models.transferable import domain, forms, screening
from mlsim.models.transferable.atom_batch import AtomBatch
from mlsim.models.transferable.atoms import CHARGE, PARAMETER_SIZES, PARAMETERS, SolventAtoms
from mlsim.models.transferable.forms import OUTPUTS, Form
from mlsim.seeds import torch_stream


class TransferableSettings(ModelSettings):
    """Architecture and domain of a transferable solvent; with the weights it is the whole model.

    ``vocabulary`` holds the chemical kinds, with ``shells`` shells of bonded neighbours, ``lowest_charge`` and
    ``highest_charge`` (e) the charges of each kind that were trained on.
    """

    vocabulary: tuple[str, ...] = Field(min_length=1)
    lowest_charge: tuple[float, ...]
    highest_charge: tuple[float, ...]
    form: Form = "additive"
    features: int = Field(64, ge=1, le=1024)
    blocks: int = Field(2, ge=1, le=16)
    n_radial: int = Field(24, ge=2, le=512)
    cutoff_nm: float = Field(0.6, gt=0.0)
    activation: Literal["tanh", "silu"] = "silu"
    radial: Literal["gaussian", "bessel"] = "gaussian"
    energy_scale: float = Field(1.0, gt=0.0)
    dielectric: float = Field(95.0, gt=1.0)
    shells: Literal[1, 2] = 2

    @model_validator(mode="after")
    def _one_range_per_kind(self) -> TransferableSettings:
        if not len(self.vocabulary) == len(self.lowest_charge) == len(self.highest_charge):
            raise ValueError("expected one lowest and one highest charge per kind of the vocabulary")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("expected different kinds in the vocabulary")
        return self


def domain_of(molecules: Sequence[SolventAtoms], shells: Literal[1, 2] = 2) -> dict[str, object]:
    """Vocabulary, ranges of charges and shells (settings of a model) that cover ``molecules``."""
    kinds = [domain.reduced(m.kinds, shells) for m in molecules]
    return {**domain.domain_of(kinds, [m.parameters[:, CHARGE] for m in molecules]), "shells": shells}


class TransferableISSNet(AbstractEnergyModel):
    """Solvation free energy of any peptide whose kinds of atoms it knows.

    Parameters
    ----------
    config : TransferableSettings
    seed : int
        Root seed of the initial weights.
    """

    kind: ClassVar[str] = "transferable"
    settings_type: ClassVar[type[ModelSettings]] = TransferableSettings

    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        sizes: Tensor

    def __init__(self, config: TransferableSettings, seed: int = 0) -> None:
        super().__init__(config, seed)
        generator = torch_stream(seed, "models.transferable")
        width = config.features
        self.outputs = OUTPUTS[config.form]
        self.energy_at = self._column("energy")
        self.radius_at = self._column("radius")
        self.screening_at = self._column("screening")
        self.born = config.form != "alone"
        self.strength = forms.polar_strength(config.dielectric)
        self.surface_factor = forms.SURFACE_FACTOR
        self.energy_scale = config.energy_scale
        self.cutoff_nm = config.cutoff_nm
        self.embedding = nn.Parameter(torch.randn(len(config.vocabulary), width, generator=generator) * 0.5)
        self.parameter_weight = nn.Parameter(torch.randn(len(PARAMETERS), width, generator=generator) * 0.5)
        self.register_buffer("sizes", torch.tensor(PARAMETER_SIZES, dtype=torch.float64), persistent=False)
        self.radial = radial_basis(config.radial, config.n_radial, config.cutoff_nm)
        self.blocks = nn.ModuleList(
            InteractionBlock(width, config.n_radial, config.activation, generator) for _ in range(config.blocks)
        )
        self.head_in = linear(width, width, generator)
        self.head_out = linear(width, len(self.outputs), generator, bias=False)
        nn.init.zeros_(self.head_out.weight)
        self.activation = activation(config.activation)

    def _column(self, output: str) -> int:
        return self.outputs.index(output) if output in self.outputs else -1

    def forward(self, positions: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """Energies [B] (kJ/mol) of conformations of one molecule.

        Parameters
        ----------
        positions : Tensor [B, N, 3], nm
        types : int64 Tensor [N]
            Kinds, as indices into the vocabulary.
        charges : Tensor [N, 5]
            All parameters of the atoms, the charge first (see ``atoms``).
        """
        copies, n = positions.size(0), positions.size(1)
        first, second = half_pairs(n, positions.device)
        start = n * torch.arange(copies, device=positions.device).unsqueeze(1)
        return self.energies(
            positions.reshape(-1, 3),
            types.repeat(copies),
            charges.repeat(copies, 1),
            torch.arange(copies, device=positions.device).repeat_interleave(n),
            (start + first).reshape(-1),
            (start + second).reshape(-1),
            copies,
        )

    @torch.jit.export
    def energies(
        self,
        positions: Tensor,
        kinds: Tensor,
        parameters: Tensor,
        conformation: Tensor,
        first: Tensor,
        second: Tensor,
        count: int,
    ) -> Tensor:
        """Energies [M] (kJ/mol) of ``count`` conformations that stand one after the other, see ``AtomBatch``."""
        distance = pair_distances(positions.index_select(0, first) - positions.index_select(0, second))
        near = torch.nonzero(distance < self.cutoff_nm).squeeze(-1)
        outputs = self.atom_outputs(
            kinds, parameters, distance.index_select(0, near), first.index_select(0, near), second.index_select(0, near)
        )
        return self.total(outputs, distance, parameters, conformation, first, second, count)

    @torch.jit.export
    def total(
        self,
        outputs: Tensor,
        distance: Tensor,
        parameters: Tensor,
        conformation: Tensor,
        first: Tensor,
        second: Tensor,
        count: int,
    ) -> Tensor:
        """Energies [M] (kJ/mol) of outputs [A, K] of the network and of all pairs ``first``, ``second`` [Q].

        Thousands of terms of both signs are summed, so sums are taken in double precision.
        """
        total = torch.zeros(count, dtype=torch.float64, device=outputs.device)
        if self.energy_at >= 0:
            total = total.index_add(0, conformation, outputs.select(1, self.energy_at).double())
        if self.born:
            charge, offset_radius, scaled_radius = (
                parameters.select(1, 0),
                parameters.select(1, 3),
                parameters.select(1, 4),
            )
            born = screening.born_radii(distance, first, second, offset_radius, scaled_radius)
            scaled, shield = self.scale(born, outputs)
            pair = screening.pair_energies(
                self.strength,
                distance,
                charge.index_select(0, first) * charge.index_select(0, second),
                scaled.index_select(0, first) * scaled.index_select(0, second),
                shield.index_select(0, first) + shield.index_select(0, second),
            )
            alone = screening.self_energies(self.strength, charge, scaled)
            alone = alone + screening.surface_energies(self.surface_factor, offset_radius, born)
            total = total.index_add(0, conformation, alone.double())
            total = total.index_add(0, conformation.index_select(0, first), pair.double())
        return total.to(outputs.dtype)

    @torch.jit.export
    def scale(self, born: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled radii R and screening h, [A] each, of Born radii [A] and outputs [A, K]."""
        scaled, shield = born, torch.ones_like(born)
        if self.radius_at >= 0:
            scaled = born * screening.bounded_factor(outputs.select(1, self.radius_at))
        if self.screening_at >= 0:
            shield = screening.bounded_factor(outputs.select(1, self.screening_at))
        return scaled, shield

    @torch.jit.export
    def atom_outputs(
        self, kinds: Tensor, parameters: Tensor, distance: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        """Outputs [A, K] of the network, of pairs ``first``, ``second`` [P] within the cutoff."""
        basis = self.radial(distance).unsqueeze(0)
        envelope = smooth_envelope(distance, self.cutoff_nm).unsqueeze(0)
        features = self.atom_features(kinds, parameters).unsqueeze(0)
        for block in self.blocks:
            features = features + block(features, basis, envelope, first, second)
        return self.read_out(features.squeeze(0))

    @torch.jit.export
    def atom_features(self, kinds: Tensor, parameters: Tensor) -> Tensor:
        """Initial features h^0 [A, F] of the atoms."""
        scaled = parameters / self.sizes.to(parameters.dtype)
        return self.embedding.index_select(0, kinds) + scaled @ self.parameter_weight

    @torch.jit.export
    def read_out(self, features: Tensor) -> Tensor:
        """Outputs [A, K] of final features [A, F]."""
        return self.energy_scale * self.head_out(self.activation(self.head_in(features)))

    @torch.jit.unused
    def filters(self, distance: Tensor) -> Tensor:
        """Filters [L, K, F] of all blocks, envelope included, at distances [K] (nm)."""
        basis = self.radial(distance)
        envelope = smooth_envelope(distance, self.cutoff_nm)
        return torch.stack([cast(InteractionBlock, block).filters(basis, envelope) for block in self.blocks])

    @torch.jit.unused
    def batch_energies(self, batch: AtomBatch) -> Tensor:
        """Energies [M] (kJ/mol) of a batch of any molecules."""
        return self.energies(
            batch.positions, batch.kinds, batch.parameters, batch.conformation, batch.first, batch.second, batch.count
        )

    @torch.jit.unused
    def require_domain(self, atoms: SolventAtoms, name: str) -> None:
        """Refuse atoms of ``name`` that the model was not trained on.

        Raises
        ------
        ArtifactError
            Naming the kinds, or the atom whose charge lies outside the range of its kind.
        """
        self.kind_indices(atoms, name)

    @torch.jit.unused
    def kind_indices(self, atoms: SolventAtoms, name: str) -> Tensor:
        """Places [N] of the kinds of ``atoms`` in the vocabulary; refuses as :meth:`require_domain`."""
        config = cast(TransferableSettings, self.config)
        return torch.from_numpy(
            domain.kind_indices(
                config.vocabulary,
                config.lowest_charge,
                config.highest_charge,
                domain.reduced(atoms.kinds, config.shells),
                atoms.parameters[:, CHARGE],
                name,
                domain.MARGINS[config.shells],
            )
        )

    @torch.jit.unused
    def type_indices(self, names: Sequence[str]) -> Tensor:
        """Places [N] of kinds in the vocabulary, whatever their charges."""
        return super().type_indices(domain.reduced(names, cast(TransferableSettings, self.config).shells))

    @torch.jit.unused
    def bind_atoms(self, atoms: SolventAtoms, name: str) -> BoundEnergy:
        """This solvent for one molecule called ``name``: a function of positions only.

        Raises
        ------
        ArtifactError
            As :meth:`require_domain`.
        """
        return BoundEnergy(self, self.kind_indices(atoms, name), torch.from_numpy(atoms.parameters.copy()))
