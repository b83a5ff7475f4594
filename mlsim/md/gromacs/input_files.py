"""Input files of GROMACS for a solvated molecule: topology, coordinates and run parameters.

What: the same Amber ff14SB / TIP3P System that OpenMM would run, written by ParmEd (``system.top``, ``system.gro``),
a fixed bias on the backbone torsions as one CMAP term per residue, and the parameters of a Langevin run
(``run.mdp``).

Why GROMACS: on processors its explicit-water step is several times cheaper than OpenMM's (about six times for a
1,657-atom box on one core), and explicit water is what everything else here waits for. Forces agree to the
single precision of both (``tests/integration/test_gromacs.py``).

Why CMAP for the bias: it is a periodic bicubic grid over two torsions that share four atoms, evaluated inside the
engine's own loop, and OpenMM has the same force, so that bias energy and force at every frame are known exactly.

    U(r, w) = U_ff(r, w) + sum_R V_R(phi_R, psi_R)

Atoms of a CMAP term are found by type, so the C-alpha of every biased residue gets a type of its own (same
parameters). Hydrogen masses are those of the settings; a distribution of positions does not depend on masses.

Symbols: V -> ``grid`` [R, G, G]; R -> residue.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import CMAPTorsionForce, System, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import ramachandran_atoms
from mlsim.errors import DependencyError
from mlsim.files import write_text
from mlsim.md.settings import Canonical
from mlsim.units import ANGSTROM_PER_NM

TOPOLOGY, COORDINATES, PARAMETERS = "system.top", "system.gro", "run.mdp"
#: CMAP grid points per angle.
CMAP_POINTS = 24
#: Atoms on which the grid of a residue depends: phi, and the last atom of psi.
_PHI_PSI = 5


def cmap_grid(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bias [R, G, G] on the CMAP grid [R, 24, 24], kJ/mol, points at -pi + 2 pi g / 24 (bilinear, periodic)."""
    points = grid.shape[1]
    where = np.arange(CMAP_POINTS) * points / CMAP_POINTS
    low = np.floor(where).astype(int)
    share = where - low
    for axis in (1, 2):
        shape = [1, 1, 1]
        shape[axis] = CMAP_POINTS
        weight = share.reshape(shape)
        grid = np.take(grid, low % points, axis) * (1 - weight) + np.take(grid, (low + 1) % points, axis) * weight
    return grid


def add_cmap(system: System, molecule: Molecule, grid: NDArray[np.float64], group: int) -> None:
    """Add the bias that GROMACS applies to an OpenMM System.

    Parameters
    ----------
    grid : float64 [R, 24, 24], kJ/mol
        Of :func:`cmap_grid`.
    """
    force = CMAPTorsionForce()
    for residue, (phi, psi) in enumerate(ramachandran_atoms(molecule)[1]):
        # OpenMM counts its maps from 0 to 2 pi, first angle fastest
        turned = np.roll(grid[residue], CMAP_POINTS // 2, (0, 1))
        force.addTorsion(force.addMap(CMAP_POINTS, turned.T.ravel()), *(int(a) for a in (*phi, *psi)))
    force.setForceGroup(group)
    system.addForce(force)


def write_inputs(
    molecule: Molecule, grid: NDArray[np.float64] | None, settings: Canonical, seed: int, directory: Path
) -> None:
    """Write ``system.top``, ``system.gro`` and ``run.mdp`` into ``directory``.

    Parameters
    ----------
    molecule : Molecule
        Solute and water in an equilibrated box.
    grid : float64 [R, 24, 24], kJ/mol, or None
        Fixed bias on (phi, psi) of every residue.
    seed : int
        Of velocities and noise, 31 bits.

    Raises
    ------
    DependencyError
        If ParmEd is not installed.
    """
    parmed = _parmed()
    system = app.ForceField(*molecule.force_field).createSystem(
        molecule.topology,
        nonbondedMethod=app.PME,
        constraints=None,
        rigidWater=False,
        hydrogenMass=settings.hydrogen_mass_Da * unit.dalton,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = parmed.openmm.load_topology(molecule.topology, system, molecule.positions * unit.nanometer)
    for atom in structure.atoms[: len(molecule.solute)]:
        atom.mass = system.getParticleMass(atom.idx)._value
    assert molecule.box is not None
    structure.box = np.array([*np.diag(molecule.box) * ANGSTROM_PER_NM, 90.0, 90.0, 90.0])
    residues = ramachandran_atoms(molecule)[1] if grid is not None else np.zeros((0, 2, 4), dtype=int)
    for number, (phi, _) in enumerate(residues):
        atom = structure.atoms[int(phi[2])]
        atom.atom_type = copy.copy(atom.atom_type)
        atom.type = atom.atom_type.name = f"XA{number}"
    structure.save(str(directory / TOPOLOGY), overwrite=True)
    structure.save(str(directory / COORDINATES), overwrite=True, precision=8, combine="all")
    if grid is not None:
        text = (directory / TOPOLOGY).read_text()
        write_text(directory / TOPOLOGY, _with_cmap(text, structure, residues, grid))
    write_text(directory / PARAMETERS, parameters(settings, seed))


def parameters(settings: Canonical, seed: int, changes: Mapping[str, object] | None = None) -> str:
    """Text of ``run.mdp``: Langevin dynamics at constant volume, one frame with forces every ``report_ps``.

    Parameters
    ----------
    changes : mapping, optional
        GROMACS parameters that replace or join those of such a run.
    """
    values: dict[str, object] = {
        "integrator": "sd",
        "dt": settings.timestep_ps,
        "nsteps": settings.total_steps,
        "tc-grps": "System",
        "tau-t": 1.0 / settings.friction_per_ps,
        "ref-t": settings.temperature_K,
        "ld-seed": seed,
        "gen-vel": "yes",
        "gen-temp": settings.temperature_K,
        "gen-seed": seed,
        "comm-mode": "none",
        "constraints": "h-bonds" if settings.constraints == "hbonds" else "none",
        "lincs-order": 6,
        "lincs-iter": 2,
        "cutoff-scheme": "Verlet",
        "coulombtype": "PME",
        "rcoulomb": 0.9,
        "fourierspacing": 0.12,
        "vdwtype": "Cut-off",
        "vdw-modifier": "None",
        "rvdw": 0.9,
        "DispCorr": "Ener",
        "nstxout": settings.report_steps,
        "nstfout": settings.report_steps,
        "nstvout": 0,
        "nstenergy": settings.report_steps,
        "nstcalcenergy": settings.report_steps,
        "nstlog": 100 * settings.report_steps,
        **(changes or {}),
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def _with_cmap(text: str, structure: Any, residues: NDArray[np.int64], grid: NDArray[np.float64]) -> str:
    """The topology with CMAP types before the first molecule and CMAP terms at the end of it."""
    types, terms = ["[ cmaptypes ]"], ["[ cmap ]"]
    for (phi, psi), values in zip(residues, grid, strict=True):
        atoms = [*(int(a) for a in phi), int(psi[3])]
        names = " ".join(structure.atoms[a].atom_type.name for a in atoms)
        types.append(f"{names} 1 {CMAP_POINTS} {CMAP_POINTS}\\")
        rows = [" ".join(f"{v:.8f}" for v in row) for row in values]
        types.append("\\\n".join(rows))
        terms.append(" ".join(str(a + 1) for a in atoms) + " 1")
    head, first, rest = text.partition("[ moleculetype ]")
    solute, second, tail = rest.partition("[ moleculetype ]")
    return head + "\n".join(types) + "\n\n" + first + solute + "\n".join(terms) + "\n\n" + second + tail


def _parmed() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import parmed
            import parmed.openmm
    except ImportError as error:
        raise DependencyError(f'ParmEd is needed for GROMACS input ({error}): pip install "mlsim[gromacs]"') from None
    return parmed
