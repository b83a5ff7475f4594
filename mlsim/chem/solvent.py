"""Explicit water around a molecule: box, water, neutralising ions.

Why the ions count as solvent: a learned solvent must stand for everything that is not the solute, so the forces
of counter-ions belong to the solvent-induced force.
"""

from __future__ import annotations

import numpy as np
from openmm import Vec3, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, WATER_FORCE_FIELD
from mlsim.errors import InputError

#: Smallest box edge, nm: twice the 0.9 nm cutoff and room for barostat fluctuations.
SMALLEST_EDGE_NM = 2.3


def solvate(molecule: Molecule, padding_nm: float = 0.85, *, neutralise: bool = True) -> Molecule:
    """Put a molecule into a cubic TIP3P box, neutralised by Na+ or Cl-.

    Parameters
    ----------
    molecule : Molecule
        Without solvent.
    padding_nm : float
        Least distance from the solute to the box face, nm.
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
        If the molecule already has a box or the padding is not positive.
    """
    if molecule.is_periodic:
        raise InputError(f"{molecule.name}: expected a molecule without solvent, got one in a box")
    if not padding_nm > 0:
        raise InputError(f"padding_nm: expected a positive distance, got {padding_nm}")
    spread = molecule.positions - molecule.positions.mean(axis=0)
    edge = max(2 * float(np.linalg.norm(spread, axis=1).max()) + 2 * padding_nm, SMALLEST_EDGE_NM)
    forcefield = app.ForceField(PROTEIN_FORCE_FIELD, WATER_FORCE_FIELD)
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addSolvent(
        forcefield, model="tip3p", boxSize=Vec3(edge, edge, edge) * unit.nanometer, neutralize=neutralise
    )
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    return Molecule(
        molecule.name,
        modeller.topology,
        positions,
        np.arange(molecule.n_atoms),
        np.eye(3) * edge,
        (PROTEIN_FORCE_FIELD, WATER_FORCE_FIELD),
    )
