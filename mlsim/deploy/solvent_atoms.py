"""The atoms of a molecule as a transferable solvent sees them: kinds from bonds, numbers from the force field.

Charges and Lennard-Jones parameters are those of the molecule's own force field; Born radii and scaling factors are
OBC2's as OpenMM assigns them, by element and what a hydrogen is bonded to, so that no further table is needed.
"""

from __future__ import annotations

import numpy as np
from openmm import NonbondedForce, app

from mlsim.chem.kinds import chemical_kinds, pieces
from mlsim.chem.molecule import Molecule
from mlsim.errors import ArtifactError
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.potentials.born import general_form


def solvent_atoms(molecule: Molecule) -> SolventAtoms:
    """Kinds and parameters of the solute of ``molecule``.

    Raises
    ------
    ArtifactError
        If the solute is more than one molecule: how water acts between two was not trained on.
    """
    solute = molecule.solute_molecule()
    count = pieces(solute.n_atoms, solute.bonds.tolist())
    if count != 1:
        raise ArtifactError(
            f"{solute.name}: consists of {count} separate molecules; a transferable solvent is trained on single "
            "peptides, expected one connected molecule"
        )
    system = solute.system_template(app.NoCutoff)  # owns its forces: must outlive the loop
    nonbonded = next(f for f in system.getForces() if isinstance(f, NonbondedForce))
    pair = [[v._value for v in nonbonded.getParticleParameters(k)] for k in range(solute.n_atoms)]
    born = general_form("obc2", solute)
    names = [born.getPerParticleParameterName(k) for k in range(born.getNumPerParticleParameters())]
    given = [dict(zip(names, born.getParticleParameters(k), strict=True)) for k in range(born.getNumParticles())]
    radii = np.array([[row["or"], row["sr"]] for row in given])
    return SolventAtoms(chemical_kinds(solute.elements, solute.bonds.tolist()), np.hstack([np.array(pair), radii]))
