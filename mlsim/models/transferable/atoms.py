"""What a transferable solvent is told about each atom.

An atom is described by what transfers between peptides: its chemical kind (the graph of bonds around it, see
``chem.kinds``), for which the network learns a vector, and five numbers of the force field, which enter linearly and
let atoms of one kind differ:

    charge (e), Lennard-Jones sigma (nm) and epsilon (kJ/mol), offset Born radius o and scaled radius s (nm) of OBC2

No index of a force field's atom types occurs, so that another force field of the same form, D-amino acids, rings and
caps are described as they are. The description does not depend on the order of the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import ArtifactError
from mlsim.shapes import require_shape

#: Columns of the parameters of an atom.
CHARGE, SIGMA, EPSILON, OFFSET_RADIUS, SCALED_RADIUS = range(5)
PARAMETERS = ("charge", "sigma", "epsilon", "offset radius", "scaled radius")
#: Their sizes, by which a network divides them: e, nm, kJ/mol, nm, nm.
PARAMETER_SIZES = (0.5, 0.3, 0.5, 0.15, 0.12)


@dataclass(frozen=True, eq=False)
class SolventAtoms:
    """The atoms of one molecule, as a transferable solvent sees them.

    Attributes
    ----------
    kinds : tuple of str, length N
        Chemical kinds.
    parameters : float64 [N, 5]
        Charge (e), sigma (nm), epsilon (kJ/mol), offset radius (nm), scaled radius (nm).
    """

    kinds: tuple[str, ...]
    parameters: NDArray[np.float64]

    def __post_init__(self) -> None:
        given = require_shape(self.parameters, (len(self.kinds), len(PARAMETERS)), "parameters of the atoms")
        values = np.array(given, dtype=np.float64)
        if not (values[:, [OFFSET_RADIUS, SCALED_RADIUS]] > 0).all():
            raise ArtifactError("parameters of the atoms: expected Born radii above zero (nm)")
        values.flags.writeable = False
        object.__setattr__(self, "parameters", values)

    def __len__(self) -> int:
        return len(self.kinds)
