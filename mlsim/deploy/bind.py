"""From a force field on disk to energies and forces of a molecule: bare evaluation, no simulation.

    field = load_forcefield("forcefields/NAME")
    bound = field.bind(molecule)
    energies, forces = bound.evaluate(positions)      # [F, N, 3] nm -> [F] kJ/mol, [F, N, 3] kJ/mol/nm

Four backends compute the same energy: ``compiled`` (the tabulated kernel, no torch), ``static`` (the same in torch with
static shapes, a CUDA graph on a GPU), ``eager`` (the torch module) and ``torchscript`` (what ``model.pt`` holds).
``auto`` is ``compiled`` where the kind has a kernel, else ``eager``.

For alanine dipeptide one evaluation takes 0.018 ms compiled, 1.4 ms as TorchScript and 1.8 ms eager (one core).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.readers.positions import require_sound
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.atoms_of_model import (
    COMPILED_KINDS,
    STATIC_KINDS,
    compiled_energy,
    require_kinds,
    torch_energy,
)
from mlsim.deploy.kernel.compiled import CompiledEnergy
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import ArtifactError, InputError, UnphysicalError
from mlsim.shapes import require_shape

if TYPE_CHECKING:
    from mlsim.chem.molecule import Molecule
    from mlsim.deploy.bridges.torchscript import ExportedEnergy

Backend = Literal["auto", "compiled", "static", "torchscript", "eager"]
BACKENDS: tuple[Backend, ...] = ("auto", "compiled", "static", "torchscript", "eager")
Precision = Literal["float32", "float64"]


class Evaluator(Protocol):
    """What a backend provides; positions in nm, energies in kJ/mol, forces in kJ/mol/nm."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""

    def energy_forces(self, positions: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """One conformation [N, 3]: energy, and forces [N, 3]."""

    def evaluate(self, positions: NDArray[Any], threads: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Many conformations [R, N, 3]: energies [R] and forces [R, N, 3]."""


#: How much longer than usual a bond may be where energies are asked for, nm: hot or displaced structures are allowed.
SLACK_NM = 0.04


@dataclass(frozen=True, eq=False)
class BoundForceField:
    """A force field for one molecule.

    Attributes
    ----------
    field : ForceField
    molecule : Molecule
        The solute.
    backend : str
        ``compiled``, ``static``, ``torchscript`` or ``eager``.
    precision : str
        Type of the network's arithmetic.
    evaluator : Evaluator
    """

    field: ForceField
    molecule: Molecule
    backend: Backend
    precision: Precision
    evaluator: Evaluator

    @property
    def n_atoms(self) -> int:
        """Number of atoms N of the solute."""
        return self.evaluator.n_atoms

    def evaluate(self, positions: object, threads: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies and forces of conformations.

        Parameters
        ----------
        positions : array_like [F, N, 3], nm
        threads : int
            Frames are divided among this many threads (compiled backend).

        Returns
        -------
        energies : float64 [F], kJ/mol
        forces : float64 [F, N, 3], kJ/mol/nm

        Raises
        ------
        InputError
            Wrong shape, NaN or infinity, or bonds that are impossible: another order of the atoms (see
            :meth:`mlsim.chem.molecule.Molecule.take`), other units, a molecule cut by a periodic box.
        UnphysicalError
            If a result is not finite.
        """
        if threads < 1:
            raise InputError(f"threads: expected at least 1, got {threads}")
        x = require_shape(positions, (None, self.n_atoms, 3), f"positions of {self.molecule.name} (nm)")
        require_sound(x, self.molecule.bonds, self.molecule.elements, f"positions of {self.molecule.name}", SLACK_NM)
        energies, forces = self.evaluator.evaluate(x.astype(np.float64, copy=False), threads)
        bad = ~np.isfinite(energies) | ~np.isfinite(forces).all(axis=(1, 2))
        if bad.any():
            raise UnphysicalError(f"{self.field.name}: energy or forces of frame {int(bad.argmax())} are not finite")
        return energies, forces


@dataclass(frozen=True, eq=False)
class ForceField:
    """A force field, not yet bound to a molecule.

    Attributes
    ----------
    artifact : ForceFieldArtifact
    """

    artifact: ForceFieldArtifact

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return self.artifact.name

    def bind(
        self,
        molecule: Molecule,
        backend: Backend = "auto",
        precision: Precision | None = None,
        device: str = "cpu",
    ) -> BoundForceField:
        """Bind to the solute of ``molecule``.

        Parameters
        ----------
        backend : {"auto", "compiled", "static", "torchscript", "eager"}
        precision : {"float32", "float64"}, optional
            Default: as the card says.
        device : str
            Where ``static`` computes; all others are for the CPU.

        Raises
        ------
        ArtifactError
            If the molecule has atom types that the network does not know or was not trained on, or is another one
            than a non-transferable force field was trained on, or the backend cannot compute this kind.
        """
        solute = molecule.solute_molecule()
        require_fit(self.artifact, solute)
        chosen = _choose(self.artifact, backend)
        precise: Precision = precision or self.artifact.card.dtype
        if device != "cpu" and chosen != "static":
            raise InputError(f"device '{device}': backend '{chosen}' computes on the CPU; use backend 'static'")
        if chosen == "compiled":
            evaluator: Evaluator = _compiled(self.artifact, solute, precise)
        elif chosen == "static":
            from mlsim.deploy.kernel.cuda_graph import GraphedEnergy
            from mlsim.deploy.kernel.static import StaticProgram

            evaluator = GraphedEnergy(StaticProgram(_compiled(self.artifact, solute, precise).network, device), device)
        else:
            evaluator = _torch(self.artifact, solute, precise, chosen)
        return BoundForceField(self, solute, chosen, precise, evaluator)


def load_forcefield(directory: str | Path) -> ForceField:
    """Load a verified force field.

    Raises
    ------
    MissingError, ArtifactError
        As :meth:`mlsim.deploy.artifact.ForceFieldArtifact.load`.
    """
    return ForceField(ForceFieldArtifact.load(directory))


def require_fit(artifact: ForceFieldArtifact, solute: Molecule) -> None:
    """Refuse a molecule that the force field was not made for."""
    card = artifact.card
    atoms = card.exported_for
    same = solute.digest == atoms.molecule_digest or (
        solute.atom_types == atoms.types and np.allclose(solute.charges, atoms.charges_e, atol=1e-4)
    )
    if artifact.kind == "transferable":
        if card.description.force_field not in solute.force_field:
            raise ArtifactError(
                f"{artifact.name}: trained with {card.description.force_field}, {solute.name} has "
                f"{', '.join(solute.force_field)}: other charges need a solvent of their own"
            )
        described = solvent_atoms(solute)
        require_kinds(artifact.config, described.kinds, described.parameters[:, 0], solute.name)
        return
    artifact.type_indices(solute.atom_types)
    if same:
        return
    if card.description.scope == "molecule":
        raise ArtifactError(
            f"{artifact.name}: made for {atoms.molecule} ({len(atoms.types)} atoms) and not transferable; got "
            f"{solute.name} ({solute.n_atoms} atoms, other types, charges or order). Train one for it, or use one "
            "with scope 'types'"
        )
    seen = set(card.description.training.atom_types) or set(atoms.types)
    unseen = sorted(set(solute.atom_types) - seen)
    if unseen:
        raise ArtifactError(
            f"{artifact.name}: not trained on atom types {', '.join(unseen)} of {solute.name}; it has seen "
            f"{' '.join(sorted(seen))}"
        )


def exported_energy(artifact: ForceFieldArtifact, solute: Molecule, precision: Precision) -> ExportedEnergy:
    """The network in torch, bound to a molecule, with doors for positions of any type."""
    import torch

    from mlsim.deploy.bridges.torchscript import ExportedEnergy

    model = artifact.model().to(getattr(torch, precision))
    return ExportedEnergy(torch_energy(model, solute), next(model.parameters())).eval()


def _choose(artifact: ForceFieldArtifact, backend: Backend) -> Backend:
    if backend not in BACKENDS:
        raise InputError(f"backend: expected one of {', '.join(BACKENDS)}, got '{backend}'")
    if backend == "auto":
        return "compiled" if artifact.kind in COMPILED_KINDS else "eager"
    forms = {"compiled": COMPILED_KINDS, "static": STATIC_KINDS}
    if artifact.kind not in forms.get(backend, (artifact.kind,)):
        raise ArtifactError(f"{artifact.name}: there is no {backend} form of kind '{artifact.kind}'; use 'eager'")
    return backend


def _compiled(artifact: ForceFieldArtifact, solute: Molecule, precision: Precision) -> CompiledEnergy:
    table = artifact.table()
    if table is None:
        raise ArtifactError(f"{artifact.name}: has no filter table; export it again, or use backend 'eager'")
    return compiled_energy(artifact.kind, artifact.config, artifact.weights(), table, solute, precision)


def _torch(artifact: ForceFieldArtifact, solute: Molecule, precision: Precision, backend: Backend) -> Evaluator:
    from mlsim.deploy.bridges.torchscript import TorchEnergy, script

    module = exported_energy(artifact, solute, precision)
    return TorchEnergy(module if backend == "eager" else script(module), solute.n_atoms)
