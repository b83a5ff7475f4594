"""A smooth force that acts at every n-th step only, n times as strong: a multiple time step without another integrator.

    step k of size d:    f = f_fast(x_k) + n f_slow(x_k)    if k mod n = 0,    else    f = f_fast(x_k)

This is the impulse method (Verlet-I, r-RESPA) with an outer step n d around the Langevin middle integrator, which
evaluates forces once per step and treats fast and slow ones alike. OpenMM's own MTSLangevinIntegrator does the same
splitting with a CustomIntegrator, whose interpreter costs a peptide more than a compiled network does
(:mod:`mlsim.md.integrator`); here the step stays the built-in one, and the skipped evaluations cost a microsecond.

Whoever evaluates the slow force asks :meth:`Impulses.strength` first. Between steps the answer is always 1, so energies
and forces that are reported are those of the whole potential, at any step. The answer depends on the number of the step
in the Context, which is part of a checkpoint: a resumed run keeps the rhythm.

Symbols: n ``every``, k the Context's step count, d the time step.

References: Grubmueller et al., Mol. Simul. 6, 121 (1991); Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from openmm import LangevinMiddleIntegrator, State

from mlsim.errors import InputError


class Impulses:
    """The rhythm that an integrator and the slow forces of its System share.

    Parameters
    ----------
    every : int
        Steps from one impulse to the next; 1 means an ordinary force.

    Raises
    ------
    InputError
        If ``every`` is not positive.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise InputError(f"impulses: expected at least 1 step between them, got {every}")
        self.every = every
        self._stepping = False

    def strength(self, state: State) -> int:
        """How many times as strong the slow force is in this evaluation: 0 is a step without it."""
        if not self._stepping:
            return 1
        return 0 if state.getStepCount() % self.every else self.every

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """While an integrator steps."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False


class ImpulseLangevin(LangevinMiddleIntegrator):  # type: ignore[misc]  # OpenMM has no types
    """Langevin middle integrator that tells ``impulses`` when it steps.

    Parameters
    ----------
    temperature_K, friction_per_ps, timestep_ps : float
    impulses : Impulses
        The one that the System was built with.
    """

    def __init__(self, temperature_K: float, friction_per_ps: float, timestep_ps: float, impulses: Impulses) -> None:
        super().__init__(temperature_K, friction_per_ps, timestep_ps)
        self.impulses = impulses

    def step(self, steps: int) -> None:
        """Advance by ``steps``."""
        with self.impulses.stepping():
            super().step(steps)
