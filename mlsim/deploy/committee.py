"""Committee: several force fields of one molecule; where they disagree, none of them knows.

For M members with energies E_m and forces F_m at a conformation r

    F = mean_m F_m                 s_F^2 = mean over components of var_m F_m
    E = mean_m (E_m - c_m)         s_E^2 = var_m (E_m - c_m)

var_m has M - 1 in the denominator. An energy learned from forces has an arbitrary constant c_m: it is the member's mean
over the conformations given, so s_E says how differently the members rank *these*. s_F needs no such choice and is what
frames are chosen by. A spread is a lower bound of the error: what all members get wrong alike does not show.

Each member is evaluated by the fastest backend it has (the compiled kernel: 0.03 ms per member and frame for a
dipeptide). Members must stand on the same baseline, which then cancels in the spreads and is not part of E and F.

Symbols: E ``energies``, F ``forces``, s_E ``energy_spread``, s_F ``force_spread``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.deploy.bind import BoundForceField, ForceField
from mlsim.errors import InputError


@dataclass(frozen=True, eq=False)
class Opinion:
    """What a committee says about conformations.

    Attributes
    ----------
    energies : float64 [F], kJ/mol
        Mean over the members, each less its mean over the conformations.
    forces : float64 [F, N, 3], kJ/mol/nm
        Mean over the members.
    energy_spread : float64 [F], kJ/mol
    force_spread : float64 [F], kJ/mol/nm
        Per component.
    """

    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    energy_spread: NDArray[np.float64]
    force_spread: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Committee:
    """Force fields bound to one molecule."""

    members: tuple[BoundForceField, ...]

    @classmethod
    def of(cls, fields: Sequence[ForceField], molecule: Molecule) -> Committee:
        """Bind ``fields`` to ``molecule``.

        Raises
        ------
        InputError
            If there are fewer than two, one is given twice, or their roles, baselines or temperatures differ.
        ArtifactError
            If one is not for this molecule.
        """
        if len(fields) < 2:
            raise InputError(f"committee: expected at least two force fields, got {len(fields)}")
        digests = [field.artifact.digest for field in fields]
        if len(set(digests)) < len(digests):
            raise InputError("committee: expected different force fields, got one twice")
        cards = [field.artifact.card for field in fields]
        for what, values in (
            ("role", [c.description.role for c in cards]),
            ("baseline", [c.baseline for c in cards]),
            ("temperature_K", [c.description.temperature_K for c in cards]),
        ):
            if len(set(values)) > 1:
                raise InputError(f"committee: members differ in {what}: {', '.join(str(v) for v in values)}")
        return cls(tuple(field.bind(molecule) for field in fields))

    def evaluate(self, positions: object, threads: int = 1) -> Opinion:
        """Mean and spread at conformations.

        Parameters
        ----------
        positions : array_like [F, N, 3], nm
        threads : int
            Frames are divided among this many threads.
        """
        found = [member.evaluate(positions, threads) for member in self.members]
        energies = np.array([energy - energy.mean() for energy, _ in found])
        forces = np.array([force for _, force in found])
        variance = forces.var(axis=0, ddof=1).mean(axis=(1, 2))
        return Opinion(energies.mean(axis=0), forces.mean(axis=0), energies.std(axis=0, ddof=1), np.sqrt(variance))
