"""From a trained network and a molecule to an artifact on disk.

The weights are written in float32, the type they are trained and run in; whatever is checked later is checked on what
was written. The filter table is made here, once, and its error goes into the card.
"""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlsim import seeds
from mlsim.chem.molecule import Molecule
from mlsim.dataset.region import TrainedRegion
from mlsim.deploy.artifact import (
    CARD,
    GUARD,
    SCRIPT,
    STRUCTURE,
    TABLE,
    ForceFieldArtifact,
    digests,
)
from mlsim.deploy.atoms_of_model import COMPILED_KINDS, STATIC_KINDS, compiled_energy, torch_energy
from mlsim.deploy.bridges import torchscript
from mlsim.deploy.card import Atoms, Card, Description, TableNote
from mlsim.deploy.kernel import table
from mlsim.deploy.kernel.static import StaticProgram
from mlsim.deploy.travelling_committee import FILE as COMMITTEE
from mlsim.deploy.travelling_committee import Member, MemberSet
from mlsim.errors import ArtifactError
from mlsim.files import new_directory, write_bytes, write_npz
from mlsim.models import weights
from mlsim.records import versions

if TYPE_CHECKING:
    from mlsim.models.contract import AbstractEnergyModel

#: Conformations on which the change of forces is measured, and the size of their random displacements (nm).
CONFORMATIONS, DISPLACEMENT_NM = 8, 0.01


def export(
    model: AbstractEnergyModel,
    molecule: Molecule,
    directory: Path,
    description: Description,
    intervals: int | None = None,
    region: TrainedRegion | None = None,
    committee: MemberSet | None = None,
) -> ForceFieldArtifact:
    """Write an artifact; it is not verified yet.

    Parameters
    ----------
    model : AbstractEnergyModel
    molecule : Molecule
        The molecule that ``model.pt`` is made for.
    directory : Path
        The new artifact; its last part is the name.
    description : Description
        Role, scope, provenance.
    intervals : int, optional
        Grid of the filter table; default: as fine as :mod:`mlsim.deploy.kernel.table` thinks right.
    region : TrainedRegion, optional
        Conformations it was trained on, for the extrapolation guard.
    committee : MemberSet, optional
        Further fits whose spread says how sure it is, see :func:`member`.

    Raises
    ------
    OccupiedError
        If ``directory`` exists.
    ArtifactError
        If the network has parameters that are not finite or does not know the molecule's atom types.
    """
    solute = molecule.solute_molecule()
    model = _single(model)
    torch_energy(model, solute)  # refuses a molecule that it does not know, before anything is written
    config = model.config.model_dump(mode="json")
    note = None
    with new_directory(directory, "remove it or choose another --name") as fresh:
        weights.save(model, fresh)
        if region is not None:
            region.save(fresh / GUARD)
        if committee is not None:
            write_npz(fresh / COMMITTEE, committee.arrays())
        solute.to_pdb(fresh / STRUCTURE)
        # as whoever has the directory makes it: a copy has its attributes, and so its program, in another order
        written = weights.load(fresh).to("cpu", torch.float32).eval()
        bound = torch_energy(written, solute)
        script = torchscript.script(torchscript.ExportedEnergy(bound, next(written.parameters())))
        write_bytes(fresh / SCRIPT, torchscript.to_bytes(script))
        if model.kind in COMPILED_KINDS:
            filters = table.tabulate(model, intervals)
            filters.save(fresh / TABLE)
            tabulated = table.FilterTable.load(fresh / TABLE)
            error = table.error(tabulated, model)
            note = TableNote(
                intervals=filters.intervals,
                value_error=error.value,
                slope_error=error.slope,
                force_change=force_change(model, tabulated, solute),
            )
        card = Card(
            name=directory.name,
            kind=model.kind,
            cutoff_nm=config.get("cutoff_nm"),
            baseline=config.get("baseline", "none"),
            description=description,
            exported_for=Atoms(
                molecule=solute.name,
                molecule_digest=solute.digest,
                types=solute.atom_types,
                charges_e=tuple(np.round(solute.charges, 6).tolist()),
            ),
            vocabulary=model.config.vocabulary,
            table=note,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
            files=digests(fresh),
        )
        (fresh / CARD).write_text(card.to_yaml())
    return ForceFieldArtifact.read(directory)


def member(model: AbstractEnergyModel) -> Member:
    """A fit as a member of a committee.

    Raises
    ------
    ArtifactError
        If the kernel does not compute its kind, or a parameter is not finite.
    """
    if model.kind not in COMPILED_KINDS:
        raise ArtifactError(f"a member of kind '{model.kind}': expected one of {', '.join(COMPILED_KINDS)}")
    single = _single(model)
    parameters = {name: value.numpy() for name, value in single.state_dict().items()}
    return Member(single.config.model_dump(mode="json"), parameters, table.tabulate(single))


def force_change(model: AbstractEnergyModel, filters: table.FilterTable, solute: Molecule) -> float:
    """Root-mean-square change of the forces by a filter table, relative to that of the network's forces.

    Measured in float64 on the molecule and thermal-sized random displacements of it, from a fixed seed.
    """
    moved = seeds.numpy_stream(1, "force change").normal(size=(CONFORMATIONS, solute.n_atoms, 3))
    moved[0] = 0.0
    positions = torch.from_numpy(solute.positions + DISPLACEMENT_NM * moved)
    exact = copy.deepcopy(model).to("cpu", torch.float64)
    x = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(torch_energy(exact, solute)(x).sum(), x)
    weights_ = {name: value.numpy() for name, value in exact.state_dict().items()}
    bound = compiled_energy(exact.kind, exact.config.model_dump(), weights_, filters, solute, "float64")
    if exact.kind in STATIC_KINDS:  # without the seconds that compiling for float64 takes
        _, forces = StaticProgram(bound.network)(positions)
    else:
        forces = torch.from_numpy(bound.evaluate(positions.numpy())[1])
    scale = float(gradient.square().mean().sqrt()) or 1.0
    return float((forces + gradient).square().mean().sqrt()) / scale


def _single(model: AbstractEnergyModel) -> AbstractEnergyModel:
    """A float32 copy on the CPU, ready for evaluation, with finite parameters."""
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise ArtifactError(f"parameter '{name}' is not finite: the training diverged; nothing was exported")
    return copy.deepcopy(model).to("cpu", torch.float32).eval()
