"""A learned force field on many copies of its molecule: one call evaluates all of them.

The System is that of :mod:`mlsim.potentials.copies`: copy c owns the particles c N to (c + 1) N - 1. The copies are the
batch of one evaluation; each has the energy and forces that it would have alone, to the last bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from mlsim.deploy.bind import BoundForceField, Evaluator
from mlsim.errors import InputError, UnphysicalError
from mlsim.potentials import callback
from mlsim.potentials.impulses import Impulses


class BatchedCallback:
    """What ``PythonForce`` calls for all copies at once.

    Parameters
    ----------
    evaluator : Evaluator
    name : str
        Of the force field, for messages.
    copies : int
    threads : int
        Copies are divided among this many threads.
    impulses : Impulses, optional
        When the force acts; by default at every step.
    """

    def __init__(
        self, evaluator: Evaluator, name: str, copies: int, threads: int = 1, impulses: Impulses | None = None
    ) -> None:
        self.evaluator, self.name, self.copies, self.threads = evaluator, name, copies, threads
        self.impulses, self._nothing = impulses, np.zeros((copies * evaluator.n_atoms, 3))
        self._positions = np.empty((copies * evaluator.n_atoms, 3))

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchedCallback, (self.evaluator, self.name, self.copies, self.threads)

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        """Energy of all copies together (kJ/mol), and forces [copies * N, 3] (kJ/mol/nm)."""
        try:
            strength = 1 if self.impulses is None else self.impulses.strength(state)
            if strength == 0:
                return 0.0, self._nothing
            callback.read_positions(state, self._positions)
            energy, forces = self.compute(self._positions.reshape(self.copies, -1, 3))
            return energy, forces if strength == 1 else strength * forces
        except BaseException as error:  # also KeyboardInterrupt, which OpenMM would swallow
            callback.stash(error)
            raise

    def compute(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """As called by OpenMM, for positions [copies, N, 3] (nm).

        Raises
        ------
        UnphysicalError
            If an energy or a force is not finite; names the copy.
        """
        energies, forces = self.evaluator.evaluate(positions, self.threads)
        if not (math.isfinite(energies.sum()) and math.isfinite(np.vdot(forces, forces))):
            bad = ~(np.isfinite(energies) & np.isfinite(forces).all(axis=(1, 2)))
            raise UnphysicalError(f"{self.name}: energy or forces of copy {int(bad.argmax())} are not finite")
        return float(energies.sum()), forces.reshape(-1, 3)


def batched_force(
    bound: BoundForceField, copies: int, threads: int = 1, impulses: Impulses | None = None
) -> openmm.PythonForce:
    """``PythonForce`` on ``copies`` * N particles.

    Raises
    ------
    InputError
        If ``copies`` is not positive.
    """
    if copies < 1:
        raise InputError(f"copies: expected at least 1, got {copies}")
    force = openmm.PythonForce(BatchedCallback(bound.evaluator, bound.field.name, copies, threads, impulses))
    force.setName(f"learned:{bound.field.name}")
    return force
