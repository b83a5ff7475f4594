"""Forces of a generalized Born model on force frames, for training a network on the difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Platform

from mlsim.chem.catalog import load_system, systems
from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.files import replacing
from mlsim.fitting.solvent.force_matching import Baseline
from mlsim.md.integrator import verlet
from mlsim.potentials.named import solvation
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import skeleton

#: The molecule of a fit, in its directory.
MOLECULE = "molecule.pdb"


def molecule_of(frames: ForceFrames, system: str | Path | None = None) -> Molecule:
    """The molecule that frames belong to: ``system`` if given, else the known system with the same digest.

    Raises
    ------
    InputError
        If none fits.
    """
    if system is not None:
        molecule = load_system(system)
        if molecule.digest != frames.molecule_digest:
            raise InputError(
                f"system '{system}' has digest {molecule.digest}, the frames are of {frames.molecule_digest}; "
                "name the system that they were made of"
            )
        return molecule
    for entry in systems():
        molecule = entry.load()
        if molecule.digest == frames.molecule_digest:
            return molecule
    raise InputError(f"no known system has the digest {frames.molecule_digest} of the frames; name it with --system")


def keep_molecule(molecule: Molecule, directory: Path) -> None:
    """Write ``molecule.pdb`` beside a fit, so that export need not be told the molecule again."""
    with replacing(directory / MOLECULE) as partial:
        molecule.solute_molecule().to_pdb(partial)


def born_forces(model: str, molecule: Molecule, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Solvation forces [F, N, 3] (kJ/mol/nm) of the solvent ``model`` at ``positions`` [F, N, 3] (nm).

    Raises
    ------
    InputError
        If it is no solvent with a formula.
    """
    system = skeleton(molecule, "none", 1.0)
    solvation(model, molecule).add_to(system, molecule, Placement())
    context = Context(system, verlet(1e-3), Platform.getPlatformByName("Reference"))
    forces = np.empty(positions.shape)
    for k, x in enumerate(positions):
        context.setPositions(np.asarray(x, dtype=np.float64))
        forces[k] = context.getState(getForces=True).getForces(asNumpy=True)._value
    return forces


def baseline_for(name: str, molecule: Molecule, train: ForceFrames, valid: ForceFrames) -> Baseline | None:
    """The baseline of a fit: a solvent with a formula (a GB model, or one of another package), or None for "none"."""
    if name == "none":
        return None
    return Baseline(name, born_forces(name, molecule, train.positions), born_forces(name, molecule, valid.positions))
