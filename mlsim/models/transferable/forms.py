"""The forms of a transferable solvent and the constants of generalized Born that torch module and kernel share."""

from __future__ import annotations

import math
from typing import Literal

from mlsim.units import COULOMB

Form = Literal["alone", "additive", "scaled", "screened", "scaled+additive", "screened+additive"]
#: Which of energy, radius and screening the network gives.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "alone": ("energy",),
    "additive": ("energy",),
    "scaled": ("radius",),
    "screened": ("radius", "screening"),
    "scaled+additive": ("energy", "radius"),
    "screened+additive": ("energy", "radius", "screening"),
}
#: What OBC2 takes off the radii, nm.
OFFSET_NM = 0.009
#: Coefficients of OBC2.
ALPHA, BETA, GAMMA = 1.0, 0.8, 4.85
#: kJ/mol/nm^2, and the radius of a water molecule, nm, in the surface term.
SURFACE_TENSION, PROBE_NM = 2.25936, 0.14
SURFACE_FACTOR = 4.0 * math.pi * SURFACE_TENSION
#: Least factor on radii and screening; the largest is 2 minus it.
LEAST_FACTOR = 0.1
#: Dielectric constant of OBC2 as OpenMM ships it.
DIELECTRIC_OBC2 = 78.5


def polar_strength(dielectric: float) -> float:
    """-k (1 - 1/eps), kJ nm / mol / e^2."""
    return -COULOMB * (1.0 - 1.0 / dielectric)
