"""The bias of a run: on the backbone torsions, or on collective variables by the names that analysis knows.

Why here: what a variable is, its name, its values and its formula, stands once, with the analysis of runs, which is
above whoever moves atoms.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mdtraj

from mlsim.analysis import observables
from mlsim.chem.molecule import Molecule
from mlsim.md import prepare
from mlsim.md.settings import Biased
from mlsim.potentials.biases.grid_bias import GridBias, Tempering
from mlsim.potentials.biases.variable_bias import VariableBias
from mlsim.runs.bias_file import SavedBias
from mlsim.units import steps_for


def bias_for(molecule: Molecule, settings: Biased) -> GridBias | None:
    """The bias that ``settings`` ask for, or None.

    Parameters
    ----------
    molecule : Molecule
        The solute.

    Raises
    ------
    InputError, MissingError
        If it is neither a known word nor a readable bias file that fits the molecule, or a variable is not known,
        does not fit the molecule, or has no formula that a bias can act on.
    """
    names = prepare.variables_of(settings)
    if not names:
        return prepare.bias_for(molecule, settings)
    coordinates = list(observables.coordinates(mdtraj.Topology.from_openmm(molecule.topology), names))
    if settings.bias != "metadynamics":
        saved = SavedBias.load(Path(settings.bias))
        fixed = [replace(c, axis=axis) for c, axis in zip(coordinates, saved.axes, strict=True)]
        return VariableBias(molecule, fixed, settings.temperature_K, saved.grid[0])
    if settings.hill_width_rad != Biased.model_fields["hill_width_rad"].default:
        coordinates = [replace(c, width=settings.hill_width_rad) if c.axis.periodic else c for c in coordinates]
    if settings.hill_widths is not None:
        coordinates = [replace(c, width=w) for c, w in zip(coordinates, settings.hill_widths, strict=True)]
    growth = Tempering(
        height_kJ_mol=settings.hill_height_kJ_mol,
        bias_factor=settings.bias_factor,
        interval_steps=steps_for(settings.hill_every_ps, settings.timestep_fs),
    )
    return VariableBias(molecule, coordinates, settings.temperature_K, tempering=growth)
