"""Copies of a molecule in one OpenMM System, which do not see each other.

Bonded terms are cloned copy by copy. The NonbondedForce of the solute (no cutoff) becomes one bond per pair of atoms
of the same copy, exceptions included, so that copies may overlap in space:

    U_ij = k_C (q_i q_j) / r + 4 eps ((sig / r)^12 - (sig / r)^6)        k_C q_i q_j -> coulomb, eps -> epsilon

A potential whose force is not made of such terms says itself how it acts on copies: a learned one evaluates all in
one call. Generalized Born forces have no pair form and are refused.

Why ``mlsim run --replicas R`` nevertheless runs R independent Contexts on a CPU (``context: auto``). Alanine dipeptide
on the Reference platform, us of one quiet core (EPYC, Zen 5) per step and copy, medians of seven interleaved repeats
(``python -m benchmarks.md_speed --parts replicas-alanine-dipeptide-64`` measures the last column again):

===========================  ======  ======  ======  ======
copies                            1       4      16      64
===========================  ======  ======  ======  ======
vacuum, one Context             9.2     9.0     9.0     8.7
ISSNet, independent            25.9    25.8    25.9    25.9
ISSNet, one Context            48.0    33.1    28.7    27.2
the same, own streams          91      73      68      68
===========================  ======  ======  ======  ======

The evaluation itself costs the same alone or among others: its matrix products already run at the speed of the vector
unit. Independent Contexts have their molecular mechanics in the callback of the network
(:mod:`mlsim.deploy.kernel.mechanics`), one Context leaves them to OpenMM, because it is meant for a GPU. One Context
saves the call into Python, 2 us, and costs exactness: OpenMM draws the noise
of all atoms from one stream, and iterates the constraints of all copies until the last has converged, so the path of a
copy depends on its neighbours; own streams per copy (:mod:`mlsim.md.engines.own_noise`) more than double the cost.
Independent Contexts need none of this: replica k is the same bit for bit however many run beside it, and each core
takes its own.

What any number of replicas can gain there at most: a step alone takes 25.1 us. The multiplications of the network take
9.4 us at the peak of the core (measured beside it), which nothing on that core can beat in float32, and OpenMM's
integrator with its constraints takes 1.8. If everything else cost nothing, the aggregate rate per core would be
25.1 / 11.2 = 2.2 times that of a single replica (2.4 for alanine tripeptide, 2.9 for chignolin). What batching could
really save is less, us: the call and the positions 2 to 3, the two empty rows of 24 in every matrix product 0.6. The
passes over pairs (7.0, where multiplications alone would take 2.7) read a table that other copies of the molecule do
not share: with 64 different conformations a table of 512 intervals, 1 MB, makes an evaluation 3 % slower than with one.
A table of half the size saves 1 us, wider panels 0.8 (both measured once, beside other work, and not built).
 One Context is for devices that one peptide does not fill: on a GPU :mod:`mlsim.md.engines.shared` is chosen when a
short timing says so. It was not timed on one.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import (
    CMAPTorsionForce,
    CustomBondForce,
    Force,
    HarmonicAngleForce,
    HarmonicBondForce,
    NonbondedForce,
    PeriodicTorsionForce,
    RBTorsionForce,
)

from mlsim.errors import InputError
from mlsim.units import COULOMB

_PAIR_ENERGY = "coulomb/r + 4*epsilon*((sigma/r)^12 - (sigma/r)^6)"


def tiled(positions: NDArray[np.float64], copies: int) -> NDArray[np.float64]:
    """Positions [copies * N, 3] of copies that all start at ``positions`` [N, 3]."""
    return np.tile(positions, (copies, 1))


def split(array: NDArray[np.float64], copies: int) -> NDArray[np.float64]:
    """Rows of all copies [copies * N, 3] as [copies, N, 3]."""
    return array.reshape(copies, -1, 3)


#: How many atoms a term of each force has, and the methods that read and add one.
_BONDED: dict[type[Force], tuple[int, str]] = {
    HarmonicBondForce: (2, "Bond"),
    HarmonicAngleForce: (3, "Angle"),
    PeriodicTorsionForce: (4, "Torsion"),
    RBTorsionForce: (4, "Torsion"),
}


def cloned(force: Force, n: int, copies: int, owner: str) -> Force:
    """The force of one molecule of ``n`` particles as one that acts on every copy; ``owner`` is for messages.

    Raises
    ------
    InputError
        If it has no form that acts on copies.
    """
    if isinstance(force, NonbondedForce):
        made = _pairs(force, n, copies, owner)
    elif isinstance(force, CMAPTorsionForce):
        made = _maps(force, n, copies)
    elif type(force) in _BONDED:
        made = _terms(force, n, copies)
    else:
        raise InputError(
            f"{owner}: its {force.getName()} cannot act on several copies in one System; run independent replicas"
        )
    made.setName(force.getName())
    made.setForceGroup(force.getForceGroup())
    return made


def _terms(force: Any, n: int, copies: int) -> Force:
    atoms, what = _BONDED[type(force)]
    count, read = getattr(force, f"getNum{what}s")(), getattr(force, f"get{what}Parameters")
    made: Any = type(force)()
    add = getattr(made, f"add{what}")
    for first, k in itertools.product(range(0, copies * n, n), range(count)):
        values = read(k)
        add(*(first + i for i in values[:atoms]), *values[atoms:])
    return made


def _maps(force: CMAPTorsionForce, n: int, copies: int) -> CMAPTorsionForce:
    made = CMAPTorsionForce()
    for k in range(force.getNumMaps()):
        made.addMap(*force.getMapParameters(k))
    for first, k in itertools.product(range(0, copies * n, n), range(force.getNumTorsions())):
        number, *atoms = force.getTorsionParameters(k)
        made.addTorsion(number, *(first + i for i in atoms))
    return made


def _pairs(force: NonbondedForce, n: int, copies: int, owner: str) -> CustomBondForce:
    if force.getNonbondedMethod() != NonbondedForce.NoCutoff:
        raise InputError(f"{owner}: copies in one System need nonbonded forces without cutoff")
    atoms = [[float(v._value) for v in force.getParticleParameters(k)] for k in range(n)]
    special = {}
    for k in range(force.getNumExceptions()):
        i, j, *values = force.getExceptionParameters(k)
        special[min(i, j), max(i, j)] = [float(v._value) for v in values]
    made = CustomBondForce(_PAIR_ENERGY)
    for name in ("coulomb", "sigma", "epsilon"):
        made.addPerBondParameter(name)
    for first, (i, j) in itertools.product(range(0, copies * n, n), itertools.combinations(range(n), 2)):
        if (i, j) in special:
            charges, sigma, epsilon = special[i, j]
        else:
            charges = atoms[i][0] * atoms[j][0]
            sigma, epsilon = 0.5 * (atoms[i][1] + atoms[j][1]), (atoms[i][2] * atoms[j][2]) ** 0.5
        if charges != 0.0 or epsilon != 0.0:
            made.addBond(first + i, first + j, [COULOMB * charges, sigma, epsilon])
    return made
