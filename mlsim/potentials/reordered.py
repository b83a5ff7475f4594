"""Forces on a System whose atoms stand in another order than those of the molecule.

OpenMM keeps the order of a file, a molecule has that of the residue templates. A force with one row of parameters per
particle, as the generalized Born forces have, acts on the other order once its rows are sorted:

    row of particle i_k = row of atom k                    i_k -> ``atoms[k]``

The mechanics of the solute are in such a System already, so no other force needs a form here.
"""

from __future__ import annotations

import copy
from typing import Any

from openmm import CustomGBForce, Force, GBSAOBCForce

from mlsim.errors import InputError


def reordered(force: Force, atoms: tuple[int, ...], owner: str) -> Force:
    """The force of one molecule as one that acts on particle ``atoms[k]`` as it would on atom k.

    Parameters
    ----------
    force : Force
        Made for particles in the order of the molecule; not changed.
    atoms : tuple of int
        Every particle of the System once.
    owner : str
        Name of the potential, for messages.

    Raises
    ------
    InputError
        If the force has no such form.
    """
    if list(atoms) == list(range(len(atoms))):
        return force
    if not isinstance(force, CustomGBForce | GBSAOBCForce) or force.getNumParticles() != len(atoms):
        raise InputError(
            f"{owner}: its {force.getName()} cannot act on atoms in another order than that of the residue templates; "
            "bring the structure into it with: mlsim build FILE -o DIR"
        )
    source: Any = force
    made: Any = copy.deepcopy(force)
    for k, particle in enumerate(atoms):
        values = source.getParticleParameters(k)
        made.setParticleParameters(particle, *(values if isinstance(force, GBSAOBCForce) else (values,)))
    if isinstance(force, CustomGBForce):
        for k in range(source.getNumExclusions()):
            i, j = source.getExclusionParticles(k)
            made.setExclusionParticles(k, atoms[i], atoms[j])
    return made
