"""How a model of each kind meets the atoms of a molecule: one place for what the kinds want to be told.

An ISSNet is told force-field types and charges; a transferable solvent chemical kinds and all parameters
(``solvent_atoms``). Everything else in this room (export, evaluation, verification, bridges) treats all kinds alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.deploy.kernel import compiled
from mlsim.deploy.kernel.compiled import CompiledEnergy
from mlsim.deploy.kernel.table import FilterTable

if TYPE_CHECKING:
    from mlsim.models.contract import AbstractEnergyModel, BoundEnergy

#: Kinds that the compiled kernel computes, and those that the static program does.
COMPILED_KINDS = (*compiled.KINDS, "transferable")
STATIC_KINDS = compiled.KINDS


def torch_energy(model: AbstractEnergyModel, solute: Molecule) -> BoundEnergy:
    """``model`` in torch for ``solute``: a function of positions.

    Raises
    ------
    ArtifactError
        If the model does not know an atom.
    """
    from mlsim.models.contract import bind
    from mlsim.models.transferable.peptide_solvent import TransferableISSNet

    if isinstance(model, TransferableISSNet):
        from mlsim.deploy.solvent_atoms import solvent_atoms

        return model.bind_atoms(solvent_atoms(solute), solute.name)
    return bind(model, solute.atom_types, solute.charges)


def compiled_energy(
    kind: str,
    config: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    table: FilterTable,
    solute: Molecule,
    dtype: str = "float32",
) -> CompiledEnergy:
    """A model of ``kind`` in the compiled kernel for ``solute``.

    Raises
    ------
    ArtifactError
        If weights, table and config do not belong together, or the model does not know an atom.
    """
    if kind == "transferable":
        from mlsim.deploy.kernel.solvent.compiled_solvent import bind_solvent
        from mlsim.deploy.solvent_atoms import solvent_atoms

        atoms = solvent_atoms(solute)
        place = require_kinds(config, atoms.kinds, atoms.parameters[:, 0], solute.name)
        return bind_solvent(config, weights, table, place, atoms.parameters, dtype)
    names = {name: index for index, name in enumerate(config["vocabulary"])}
    types = np.array([names[name] for name in solute.atom_types], dtype=np.int64)
    return compiled.bind(config, weights, table, types, solute.charges, dtype)


def labels(kind: str, solute: Molecule) -> tuple[str, ...]:
    """What a model of ``kind`` calls the atoms of ``solute``; with the same charge as well they are alike to it."""
    if kind == "transferable":
        from mlsim.chem.kinds import chemical_kinds

        names = chemical_kinds(solute.elements, solute.bonds.tolist())
        return tuple(f"{name} {of_type}" for name, of_type in zip(names, solute.atom_types, strict=True))
    return solute.atom_types


def require_kinds(
    config: Mapping[str, Any], kinds: tuple[str, ...], charges: NDArray[np.float64], name: str
) -> NDArray[np.int64]:
    """Indices of chemical kinds in the vocabulary of a transferable solvent.

    Raises
    ------
    ArtifactError
        If a kind is unknown, or a charge outside the range that its kind was trained on.
    """
    from mlsim.models.transferable.domain import MARGINS, kind_indices, reduced

    shells = int(config.get("shells", 2))
    ranges = config["lowest_charge"], config["highest_charge"]
    return kind_indices(config["vocabulary"], *ranges, reduced(kinds, shells), charges, name, MARGINS[shells])
