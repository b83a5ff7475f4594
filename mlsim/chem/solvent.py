"""Explicit water around a molecule: water models by name, box, neutralising ions.

A :class:`WaterModel` is a force-field file for OpenMM and the kind of box that its molecules are taken from, which has
the same number of sites. Other packages add theirs by entry points of the group ``mlsim.waters``.

Why the ions count as solvent: a learned solvent must stand for everything that is not the solute, so the forces
of counter-ions belong to the solvent-induced force.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from openmm import Vec3, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, WATER_FORCE_FIELD
from mlsim.errors import InputError
from mlsim.names import Registry

#: Smallest box edge, nm: twice the 0.9 nm cutoff and room for barostat fluctuations.
SMALLEST_EDGE_NM = 2.3


@dataclass(frozen=True)
class WaterModel:
    """A model of water and of the ions in it.

    Attributes
    ----------
    force_field : str
        OpenMM force-field file: a name that OpenMM knows (``amber14/tip3p.xml``) or a path.
    box : {"tip3p", "spce", "tip4pew", "tip5p"}
        Box of OpenMM that the water molecules are taken from: one with the sites of this model (three, three, four,
        five). Where its geometry differs, constraints and virtual sites put it right.
    """

    force_field: str
    box: Literal["tip3p", "spce", "tip4pew", "tip5p"]


#: Models of this package, as they ship with OpenMM.
WATER_MODELS: dict[str, WaterModel | str] = {
    "tip3p": WaterModel(WATER_FORCE_FIELD, "tip3p"),
    "spce": WaterModel("amber14/spce.xml", "spce"),
    "tip4pew": WaterModel("amber14/tip4pew.xml", "tip4pew"),
    "opc": WaterModel("amber14/opc.xml", "tip4pew"),
}
WATERS: Registry[WaterModel] = Registry(
    "water model",
    "mlsim.waters",
    WATER_MODELS,
    lambda found: isinstance(found, WaterModel),
    "a mlsim.chem.solvent.WaterModel",
)


def solvate(molecule: Molecule, padding_nm: float = 0.85, *, water: str = "tip3p", neutralise: bool = True) -> Molecule:
    """Put a molecule into a cubic box of water, neutralised by Na+ or Cl-.

    Parameters
    ----------
    molecule : Molecule
        Without solvent.
    padding_nm : float
        Least distance from the solute to the box face, nm.
    water : str
        Name of the water model.
    neutralise : bool
        Without it a net charge is balanced by the uniform background of PME: the box then stands for infinite
        dilution, where one ion in a few thousand waters is a salt solution of 50-100 mM.

    Returns
    -------
    Molecule
        Solute atoms first, in the same order; the box is not equilibrated yet.

    Raises
    ------
    InputError
        If the molecule already has a box, the padding is not positive, or the water model cannot be used.
    """
    if molecule.is_periodic:
        raise InputError(f"{molecule.name}: expected a molecule without solvent, got one in a box")
    if not padding_nm > 0:
        raise InputError(f"padding_nm: expected a positive distance, got {padding_nm}")
    spread = molecule.positions - molecule.positions.mean(axis=0)
    edge = max(2 * float(np.linalg.norm(spread, axis=1).max()) + 2 * padding_nm, SMALLEST_EDGE_NM)
    model = WATERS.get(water)
    files = (PROTEIN_FORCE_FIELD, model.force_field)
    try:
        forcefield = app.ForceField(*files)
    except ValueError as error:
        raise InputError(f"water model '{water}': {Path(model.force_field)} cannot be used ({error})") from None
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    box = Vec3(edge, edge, edge) * unit.nanometer
    try:
        modeller.addSolvent(forcefield, model=model.box, boxSize=box, neutralize=neutralise)
    except ValueError as error:
        raise InputError(f"water model '{water}': does not fit a box of {model.box} ({error})") from None
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    return Molecule(
        molecule.name,
        modeller.topology,
        positions,
        np.arange(molecule.n_atoms),
        np.eye(3) * edge,
        files,
    )
