"""Energies of a force field along a trajectory, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlsim.chem.catalog import forcefield_directory, read_structure
from mlsim.deploy.bind import load_forcefield
from mlsim.errors import MissingError
from mlsim.files import make_directory, write_text
from mlsim.shapes import Floats
from mlsim.workflow.conformations import of_molecule
from mlsim.workflow.force_fields.field_settings import EnergySettings


@dataclass(frozen=True, eq=False)
class Energies:
    """Energies of a force field, frame by frame.

    Attributes
    ----------
    energies : float64 [F], kJ/mol
    rms_forces : float64 [F], kJ/mol/nm
        Root mean square over the components of the forces of all atoms.
    time_ps : float64 [F] or None
        Times of the frames, if the trajectory has them.
    """

    energies: Floats
    rms_forces: Floats
    time_ps: Floats | None


def energy(
    trajectory: str | Path, forcefield: str | Path, output: str | Path, settings: EnergySettings | None = None
) -> Energies:
    """Energies and root mean square forces of a force field along a trajectory, written as CSV.

    Parameters
    ----------
    trajectory : str or Path
        Trajectory in any format that mdtraj reads.
    forcefield : str or Path
        Name of a force field, or its directory.
    output : str or Path
        Table with the columns ``frame,time_ps,energy_kJ_mol,rms_force_kJ_mol_nm``.
    settings : EnergySettings, optional

    Returns
    -------
    Energies

    Raises
    ------
    MissingError, InputError, ArtifactError
        If trajectory, topology or force field are not there, broken, or of different molecules.
    """
    trajectory, output, settings = Path(trajectory), Path(output), settings or EnergySettings()
    pdb = trajectory.parent / "topology.pdb" if settings.top is None else settings.top
    for path in (trajectory, pdb):
        if not path.is_file():
            raise MissingError(f"{path}: no such file" + ("; name the PDB file with --top" if path == pdb else ""))
    molecule = read_structure(pdb)
    bound = load_forcefield(forcefield_directory(forcefield)).bind(molecule)
    positions, time_ps = of_molecule(trajectory, pdb, molecule, settings.stride)
    energies, forces = bound.evaluate(positions, settings.threads)
    rms = np.sqrt((forces**2).mean(axis=(1, 2)))
    times = [""] * len(energies) if time_ps is None else [f"{t:.6g}" for t in time_ps]
    frames = range(0, len(energies) * settings.stride, settings.stride)
    text = "frame,time_ps,energy_kJ_mol,rms_force_kJ_mol_nm\n"
    text += "".join(f"{k},{t},{e:.8f},{f:.6f}\n" for k, t, e, f in zip(frames, times, energies, rms, strict=True))
    make_directory(output.parent)
    write_text(output, text)
    return Energies(energies, rms, time_ps)
