"""Frozen-solute labels: the mean force of the solvent on a solute that is held, with its error.

    f(r) = < F_explicit(r, w) >_w - F_vacuum(r) = -grad W(r)

The solute has mass zero, so the integrator leaves it where it is while water moves around it; bonds of the solute are
not constrained here, their forces are the same in both terms and drop out. F_explicit is sampled every ``record_ps``
and averaged with the covariance of its error (:mod:`mlsim.dataset.averaging`); a label is done when its standard
error (root mean square over components) is below the one asked for, or at ``max_ps``. Sampling until an estimate is
small favours estimates that are too small (by about 5 % of the variance on an autoregressive process of 20 components
with a hundred independent samples): labels that a noise-corrected error will be quoted on should be of fixed length
(``stderr_kJ_mol_nm: null``).

Why one box for all labels: solvating anew costs a new Context, a minimisation and a relaxation of the density for
every conformation, and gives each another number of waters. Here the next conformation is turned onto the last one
(least squares), and the solute then glides to it along a straight line at ``move_nm_per_ps``, four times slower
than waters move by themselves. They are pushed aside and close up behind as in any simulation: no overlaps to be
minimised away, no cold water, and the shell that both conformations share is kept. On the way atoms of the solute may
pass through each other, which nothing feels. No warming by the drag was seen in a glide of 4 ps (alanine dipeptide; the
temperature fluctuates by 8 K). A short equilibration follows. Labels taken in the order of a
:func:`mlsim.dataset.spread.tour` make these moves short. The price is that one label starts from the waters of another;
the equilibration must outlast their memory (a few ps in TIP3P, except for buried waters).

The label is turned back, so that positions are those that came in.

Symbols: f ``series`` (samples) and ``forces`` (mean), r ``positions``, R ``rotation``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Platform

from mlsim import limits
from mlsim.chem.molecule import Molecule
from mlsim.dataset.averaging import average, error_trace
from mlsim.errors import InputError, UnphysicalError
from mlsim.files import write_npz
from mlsim.md import platforms
from mlsim.md.integrator import langevin_middle, verlet
from mlsim.md.settings import LabelSettings
from mlsim.md.signals import RESPONSE_SECONDS, Clock, Progress
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.seeds import openmm_seed
from mlsim.units import FS_PER_PS, steps_for

#: A label's share of the progress count.
UNITS_PER_LABEL = 1000
#: Time between two displacements of a gliding solute, ps.
_MOVE_PS = 0.02


@dataclass(frozen=True, eq=False)
class Label:
    """Mean solvent force on one conformation.

    Attributes
    ----------
    positions : float64 [n, 3], nm
    forces : float64 [n, 3], kJ/mol/nm
    covariance : float64 [3n, 3n], (kJ/mol/nm)^2
        Of the error of ``forces``.
    inefficiency : float
        Samples worth one independent sample.
    sampled_ps, moved_ps : float
        Time averaged over, and time spent on getting there and equilibrating.
    wall_seconds : float
    """

    positions: NDArray[np.float64]
    forces: NDArray[np.float64]
    covariance: NDArray[np.float64]
    inefficiency: float
    sampled_ps: float
    moved_ps: float
    wall_seconds: float

    @property
    def stderr(self) -> float:
        """Root-mean-square standard error of a component, kJ/mol/nm."""
        return float(np.sqrt(np.trace(self.covariance) / len(self.covariance)))

    def save(self, path: Path) -> None:
        """Write a file that is there whole or not at all."""
        write_npz(path, {name: np.asarray(value) for name, value in vars(self).items()})

    @classmethod
    def load(cls, path: Path) -> Label:
        """Read a file of :meth:`save`.

        Raises
        ------
        InputError
            If it is damaged.
        """
        try:
            archive = limits.arrays(path)
            arrays = [archive[name] for name in ("positions", "forces", "covariance")]
            numbers = [float(archive[n]) for n in ("inefficiency", "sampled_ps", "moved_ps", "wall_seconds")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged ({error}); delete it and it will be made again") from None
        return cls(arrays[0], arrays[1], arrays[2], numbers[0], numbers[1], numbers[2], numbers[3])


class HeldSolute:
    """A solute that is held in moving water: one Context for many conformations.

    Parameters
    ----------
    water : Molecule
        Solute and water in an equilibrated box.
    settings : LabelSettings
    stream : str
        Name of the random stream, so that several of these differ.
    """

    def __init__(self, water: Molecule, settings: LabelSettings, stream: str) -> None:
        self.settings, self._n = settings, len(water.solute)
        self._every = steps_for(settings.record_ps, settings.timestep_fs)
        system = build_system(water, ExplicitWater(settings.padding_nm), "none", 1.0)
        for atom in range(self._n):
            system.setParticleMass(atom, 0.0)

        def integrator() -> object:
            return langevin_middle(
                settings.temperature_K,
                settings.friction_per_ps,
                settings.timestep_fs / FS_PER_PS,
                openmm_seed(settings.seed, f"label integrator {stream}"),
            )

        choice = platforms.choose(settings.platform, settings.threads, system)
        self.platform = choice
        self._integrator = integrator()
        self._context = Context(system, self._integrator, Platform.getPlatformByName(choice.name), choice.properties)
        self._context.setPositions(water.positions)
        seed = openmm_seed(settings.seed, f"label velocities {stream}")
        self._context.setVelocitiesToTemperature(settings.temperature_K, seed)
        solute = water.solute_molecule()
        bare = build_system(solute, Vacuum(), "none", 1.0)
        self._vacuum = Context(bare, verlet(1e-3), Platform.getPlatformByName("Reference"))

    def positions(self) -> NDArray[np.float64]:
        """All positions [N, 3], nm."""
        return np.array(self._context.getState(getPositions=True).getPositions(asNumpy=True)._value)

    def settle(self) -> None:
        """Let the water of a new box, fresh from minimisation, warm up: twice the equilibration of a label."""
        if self.settings.equilibration_ps > 0:
            self._step(steps_for(2 * self.settings.equilibration_ps, self.settings.timestep_fs))

    def measure(self, positions: NDArray[np.float64], progress: Progress | None, clock: Clock) -> Label | None:
        """Label of the conformation ``positions`` [n, 3] (nm); None if asked to stop before it is done.

        Parameters
        ----------
        clock : Clock
            Time limit and stop request.

        Raises
        ------
        UnphysicalError
            If positions or forces are not finite.
        """
        began, target = time.monotonic(), np.asarray(positions, dtype=np.float64)
        here = self.positions()[: self._n]
        rotation = superposition(target, here)
        placed = (target - target.mean(axis=0)) @ rotation + here.mean(axis=0)
        moved_ps = self._glide(here, placed)
        if self.settings.equilibration_ps > 0:
            self._step(steps_for(self.settings.equilibration_ps, self.settings.timestep_fs))
            moved_ps += self.settings.equilibration_ps
        series = self._sample(progress, clock)
        if series is None:
            return None
        turned = (series.reshape(-1, self._n, 3) @ rotation.T).reshape(len(series), -1)
        mean = average(turned)
        return Label(
            target,
            mean.mean.reshape(self._n, 3) - self._vacuum_forces(target),
            mean.covariance,
            mean.inefficiency,
            len(series) * self._every * self.settings.timestep_fs / FS_PER_PS,
            moved_ps,
            time.monotonic() - began,
        )

    def _glide(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
        """Move the solute from ``start`` to ``end`` [n, 3] while the water gives way; returns the time taken, ps."""
        farthest = float(np.linalg.norm(end - start, axis=1).max())
        number = int(np.ceil(farthest / (self.settings.move_nm_per_ps * _MOVE_PS)))
        steps = steps_for(_MOVE_PS, self.settings.timestep_fs)
        for k in range(1, number + 1):
            everything = self.positions()
            everything[: self._n] = start + (end - start) * (k / number)
            self._context.setPositions(everything)
            self._step(steps)
        return number * steps * self.settings.timestep_fs / FS_PER_PS

    def _sample(self, progress: Progress | None, clock: Clock) -> NDArray[np.float64] | None:
        """Explicit forces on the solute [K, 3n] until the error is small enough or the series long enough."""
        settings = self.settings
        series = np.empty((settings.samples, 3 * self._n))
        count, credited, look_at, needed = 0, 0, settings.least_samples, settings.samples
        goal, looked = settings.stderr_kJ_mol_nm, -np.inf
        while count < settings.samples:
            self._step(self._every)
            state = self._context.getState(getForces=True)
            series[count] = state.getForces(asNumpy=True)._value[: self._n].ravel()
            count += 1
            if goal is not None and count >= look_at:
                error = np.sqrt(error_trace(series[:count]) / (3 * self._n))
                if error <= goal:
                    break
                needed = min(settings.samples, int(count * (error / goal) ** 2) + 1)
                look_at = count + max(1, count // 10)
            now = time.monotonic()
            if now - looked > RESPONSE_SECONDS:
                looked = now
                if clock.is_over():
                    return None
                credited += self._credit(progress, min(UNITS_PER_LABEL, UNITS_PER_LABEL * count // needed), credited)
        samples = series[:count]
        if not np.isfinite(samples).all():
            raise UnphysicalError("the force of the solvent on a held conformation is not finite")
        self._credit(progress, UNITS_PER_LABEL, credited)
        return samples

    @staticmethod
    def _credit(progress: Progress | None, reached: int, credited: int) -> int:
        more = max(0, reached - credited)
        if progress is not None:
            progress.advance(more)
        return more

    def _step(self, count: int) -> None:
        self._integrator.step(count)  # type: ignore[attr-defined]

    def _vacuum_forces(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        self._vacuum.setPositions(positions)
        return np.array(self._vacuum.getState(getForces=True).getForces(asNumpy=True)._value)


def superposition(moving: NDArray[np.float64], fixed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation R [3, 3] with (moving - centroid) @ R closest to fixed - centroid (Kabsch 1976); both [n, 3]."""
    u, _, vt = np.linalg.svd((moving - moving.mean(axis=0)).T @ (fixed - fixed.mean(axis=0)))
    sign = np.sign(np.linalg.det(u @ vt))
    rotation: NDArray[np.float64] = (u * np.array([1.0, 1.0, sign])) @ vt
    return rotation
