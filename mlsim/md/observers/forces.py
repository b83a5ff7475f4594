"""Force labels: the force of the solvent on the solute, recorded while the run goes.

    f = F_explicit(r, w) - F_vacuum(r)            (solute atoms; the bias force is excluded)

Its mean over the solvent at fixed solute is -grad W(r), W the solvation free energy: the target of force matching.
F_explicit comes from force group 0 of the running Context, F_vacuum from a second Context of the bare solute
(NoCutoff, no constraints: bond terms that are constrained in the run are absent from both).
Rows go to append-only binary files next to the trajectory and become ForceFrames by :func:`collect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import Context, Platform

from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import MissingError
from mlsim.md.integrator import verlet
from mlsim.md.settings import Dynamics
from mlsim.potentials.dihedral_bias import BIAS_GROUP
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.records import RunRecord
from mlsim.runs.streams import RecordStream, Stream
from mlsim.units import steps_for

PHYSICAL_GROUP = 0
FILES = ("frames_positions.f32", "frames_forces.f32", "frames_scalars.f64")


class ForceRecorder:
    """Observer that writes positions, labels, CVs and bias every ``interval`` steps.

    Parameters
    ----------
    solute : Molecule
        The molecule without solvent.
    settings : Dynamics
        Of the explicit run (constraints and masses are taken over).
    every_ps : float
        Time between records, ps.
    """

    name = "forces"

    def __init__(self, solute: Molecule, settings: Dynamics, every_ps: float) -> None:
        self._n = solute.n_atoms
        self._settings = settings
        self._interval = steps_for(every_ps, settings.timestep_fs)
        self._atoms = ramachandran_atoms(solute)[1].reshape(-1, 4)
        system = build_system(solute, Vacuum(), settings.constraints, settings.hydrogen_mass_Da)
        self._vacuum = Context(system, verlet(1e-3), Platform.getPlatformByName("Reference"))

    @property
    def interval(self) -> int:
        """Steps between records."""
        return self._interval

    def open(self, directory: Path) -> tuple[Stream, ...]:
        """Open the three binary files."""
        self._positions = RecordStream(directory / FILES[0])
        self._forces = RecordStream(directory / FILES[1])
        self._scalars = RecordStream(directory / FILES[2], "<f8")
        return self._positions, self._forces, self._scalars

    def observe(self, step: int, context: Context) -> None:
        """Record one frame."""
        state = context.getState(getPositions=True, getForces=True, groups={PHYSICAL_GROUP})
        positions = state.getPositions(asNumpy=True)._value[: self._n]
        explicit = state.getForces(asNumpy=True)._value[: self._n]
        bias = context.getState(getEnergy=True, groups={BIAS_GROUP}).getPotentialEnergy()._value
        label = explicit - self.vacuum_forces(positions)
        angles = dihedrals(positions, self._atoms)
        self._positions.append(positions)
        self._forces.append(label)
        self._scalars.append(np.array([step * self._settings.timestep_ps, bias, *angles]))

    def vacuum_forces(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Force of the isolated solute at ``positions`` [N, 3] nm, kJ/mol/nm."""
        self._vacuum.setPositions(positions)
        return np.array(self._vacuum.getState(getForces=True).getForces(asNumpy=True)._value)

    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing but the files."""
        return {}

    def restore(self, arrays: dict[str, NDArray[Any]], context: Context) -> None:
        """Nothing to restore."""


def has_frames(directory: Path) -> bool:
    """Whether a recorded run has at least one frame."""
    paths = [directory / name for name in FILES]
    return all(path.is_file() and path.stat().st_size > 0 for path in paths)


def collect(solute: Molecule, directories: Sequence[Path]) -> ForceFrames:
    """ForceFrames of one or several recorded runs (one ``run`` index each).

    Raises
    ------
    MissingError
        If a directory has no recorded frames.
    """
    labels, quadruples = ramachandran_atoms(solute)
    names = tuple(f"{angle}_{label}" for label in labels for angle in ("phi", "psi"))
    parts: list[tuple[NDArray[Any], ...]] = []
    sources = []
    for number, directory in enumerate(directories):
        paths = [directory / name for name in FILES]
        if not all(p.is_file() for p in paths):
            raise MissingError(f"{directory}: no recorded force frames; make them with mlsim reference")
        x = np.fromfile(paths[0], dtype="<f4")
        f = np.fromfile(paths[1], dtype="<f4")
        s = np.fromfile(paths[2], dtype="<f8")
        width = 2 + quadruples.size // 4
        size = 3 * solute.n_atoms
        count = min(len(x) // size, len(f) // size, len(s) // width)
        table = s[: count * width].reshape(count, width)
        shape = (count, solute.n_atoms, 3)
        parts.append(
            (x[: count * size].reshape(shape), f[: count * size].reshape(shape), table, np.full(count, number))
        )
        sources.append(RunRecord.read(directory))
    positions, forces, scalars, run = (np.concatenate([p[k] for p in parts]) for k in range(4))
    keys = {"settings", "seed", "platform", "potential", "versions"}
    return ForceFrames(
        positions=positions,
        forces=forces,
        cvs=scalars[:, 2:],
        cv_names=names,
        bias=scalars[:, 1],
        run=run,
        time_ps=scalars[:, 0],
        atom_types=solute.atom_types,
        charges=solute.charges,
        elements=solute.elements,
        molecule_digest=solute.digest,
        provenance={
            "runs": [
                source.model_dump(mode="json", include=keys) | {"force_field": solute.force_field[0]}
                for source in sources
            ]
        },
    )
