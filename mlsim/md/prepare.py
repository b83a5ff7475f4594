"""From a molecule to the start of a run: solvent if the potential needs it, equilibration of its box.

The start is written once (``start.npz`` with full-precision positions and box, ``start.pdb`` with the topology)
and read back on resume, so that a resumed run has the same waters.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from openmm import Context, LocalEnergyMinimizer, MonteCarloBarostat, OpenMMException, Platform, System, app, unit

from mlsim import limits
from mlsim.chem.molecule import Molecule
from mlsim.chem.templates import PROTEIN_FORCE_FIELD, WATER_FORCE_FIELD
from mlsim.errors import InputError
from mlsim.files import storage, write_npz
from mlsim.md import platforms
from mlsim.md.integrator import langevin_middle, verlet
from mlsim.md.settings import Biased, Canonical, Recorded
from mlsim.md.signals import RESPONSE_SECONDS, StopRequest
from mlsim.md.stability import broken
from mlsim.potentials.contract import Potential, terms_of
from mlsim.potentials.dihedral_bias import DihedralBias, Tempering, load_grid
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.system import build_system
from mlsim.runs.bias_file import SavedBias
from mlsim.seeds import openmm_seed
from mlsim.units import FS_PER_PS, steps_for

#: Pressure of the box equilibration, bar, and its length, ps (volume averaged over the second half).
PRESSURE_BAR = 1.0
NPT_PS = 60.0
NPT_TIMESTEP_FS = 2.0


class Equilibration(Protocol):
    """From a box fresh from solvation to one at the right density."""

    def __call__(
        self, molecule: Molecule, potential: Potential, settings: Canonical, seed: int, stop: StopRequest
    ) -> Molecule:
        """The molecule in an equilibrated box; raises ``Stopped`` soon after a stop request."""


def starting_molecule(
    molecule: Molecule,
    potential: Potential,
    settings: Canonical,
    seed: int,
    directory: Path,
    equilibration: Equilibration | None = None,
    stop: StopRequest | None = None,
) -> Molecule:
    """The molecule as the run starts it; made on the first call, read from ``directory`` afterwards.

    Parameters
    ----------
    equilibration : Equilibration, optional
        Default: :func:`equilibrate_box`, by OpenMM.
    stop : StopRequest, optional
        Gives up an equilibration that is under way.

    Raises
    ------
    Stopped
        If asked to stop before there was a start; nothing is stored then.
    InputError
        If the stored start belongs to another molecule.
    """
    stored = directory / "start.npz"
    if stored.exists():
        return _read(molecule, directory, potential)
    prepared = potential.prepare(molecule)
    if not prepared.is_periodic:
        return prepared
    if not molecule.is_periodic:
        prepared = (equilibration or equilibrate_box)(prepared, potential, settings, seed, stop or StopRequest())
    with storage(stored):
        prepared.to_pdb(directory / "start.pdb")
    start = {"positions": prepared.positions, "box": np.asarray(prepared.box), "solute": prepared.solute}
    write_npz(stored, start, compressed=False)
    return prepared


def minimise(
    system: System, positions: NDArray[np.float64], settings: Recorded, iterations: int = 2000
) -> NDArray[np.float64]:
    """Positions [N, 3] nm after L-BFGS minimisation (tolerance 10 kJ/mol/nm).

    Raises
    ------
    UnphysicalError
        If energy or forces are not finite on the way.
    """
    small = system.getNumParticles() <= platforms.REFERENCE_LIMIT
    wanted = "Reference" if small else ("CPU" if settings.platform == "auto" else settings.platform)
    name = wanted if wanted in platforms.available() else "Reference"
    context = Context(
        system,
        verlet(settings.timestep_ps),
        Platform.getPlatformByName(name),
        platforms.properties_for(name, settings.threads),
    )
    context.setPositions(positions)
    try:
        LocalEnergyMinimizer.minimize(context, 10.0, iterations)
    except OpenMMException as error:
        raise broken(error, "minimisation") from None
    return np.array(context.getState(getPositions=True).getPositions(asNumpy=True)._value)


def equilibrate(step: Callable[[int], None], settings: Canonical, stop: StopRequest) -> None:
    """Run ``settings.equilibration_steps`` that nobody records: a minimised structure is colder than its velocities.

    Half of the kinetic energy goes into the potential within 0.1 ps, and the thermostat needs a few 1/friction to
    replace it.

    Parameters
    ----------
    step : callable
        Moves everything by a number of steps.

    Raises
    ------
    Stopped
        Soon after a stop request.
    UnphysicalError
        If the positions become NaN.
    """
    left, chunk = settings.equilibration_steps, 16
    while left:
        stop.heed()
        count, began = min(left, chunk), time.monotonic()
        try:
            step(count)
        except OpenMMException as error:
            raise broken(error, "equilibration") from None
        left -= count
        spent = time.monotonic() - began
        chunk = int(np.clip(count * RESPONSE_SECONDS / max(spent, 1e-9), 1, 1_000_000))


def equilibrate_box(
    molecule: Molecule, potential: Potential, settings: Canonical, seed: int, stop: StopRequest
) -> Molecule:
    """Minimise, run NPT, and scale the box to the mean volume of the second half."""
    system = build_system(molecule, potential, settings.constraints, settings.hydrogen_mass_Da)
    positions = minimise(system, molecule.positions, settings, 200)
    barostat = MonteCarloBarostat(PRESSURE_BAR * unit.bar, settings.temperature_K * unit.kelvin)
    barostat.setRandomNumberSeed(openmm_seed(seed, "barostat"))
    system.addForce(barostat)

    def integrator() -> object:
        return langevin_middle(
            settings.temperature_K, 5.0, NPT_TIMESTEP_FS / FS_PER_PS, openmm_seed(seed, "equilibration")
        )

    choice = platforms.choose(settings.platform, settings.threads, system)
    engine = integrator()
    context = Context(system, engine, Platform.getPlatformByName(choice.name), choice.properties)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(settings.temperature_K, openmm_seed(seed, "equilibration velocities"))
    blocks = 40
    length_ps = getattr(potential, "equilibration_ps", None) or NPT_PS
    volumes = []
    for _ in range(blocks):
        stop.heed()
        try:
            engine.step(steps_for(length_ps / blocks, NPT_TIMESTEP_FS))  # type: ignore[attr-defined]
        except OpenMMException as error:
            raise broken(error, "equilibration of the box") from None
        volumes.append(context.getState().getPeriodicBoxVolume()._value)
    state = context.getState(getPositions=True)
    box = np.array([[v.x, v.y, v.z] for v in state.getPeriodicBoxVectors()._value])
    final = np.array(state.getPositions(asNumpy=True)._value)
    factor = float((np.mean(volumes[blocks // 2 :]) / volumes[-1]) ** (1 / 3))
    fixed = scaled_box(molecule, final, box, factor)
    relaxed = build_system(fixed, potential, settings.constraints, settings.hydrogen_mass_Da)
    return fixed.with_positions(minimise(relaxed, fixed.positions, settings, 50))


def scaled_box(molecule: Molecule, positions: NDArray[np.float64], box: NDArray[np.float64], factor: float) -> Molecule:
    """``molecule`` at ``positions`` [N, 3] nm in ``box`` [3, 3] nm, both scaled by ``factor``, molecules rigid."""
    moved = _scale_molecules(molecule.topology, positions, factor)
    fixed = Molecule(molecule.name, molecule.topology, moved, molecule.solute, box * factor, molecule.force_field)
    fixed.topology.setPeriodicBoxVectors(fixed.box * unit.nanometer)
    return fixed


def _scale_molecules(topology: app.Topology, positions: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Move every residue's (solute: the chain's) centre by ``factor``, keeping its inner geometry."""
    scaled = positions.copy()
    for chain in topology.chains():
        solvent = all(r.name in ("HOH", "NA", "CL") for r in chain.residues())
        groups = (
            [[a.index for a in r.atoms()] for r in chain.residues()] if solvent else [[a.index for a in chain.atoms()]]
        )
        for group in groups:
            scaled[group] += (factor - 1.0) * positions[group].mean(axis=0)
    return scaled


def _read(molecule: Molecule, directory: Path, potential: Potential) -> Molecule:
    water = [term.force_field for term in terms_of(potential) if isinstance(term, ExplicitWater)]
    files = water[0] if water else (PROTEIN_FORCE_FIELD, WATER_FORCE_FIELD)
    try:
        pdb = app.PDBFile(io.StringIO(limits.text(directory / "start.pdb")))
        archive = limits.arrays(directory / "start.npz")
        positions, box, solute = archive["positions"], archive["box"], archive["solute"]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{directory}: its start in water is damaged ({reason}); start a new run") from None
    solvated = Molecule(molecule.name, pdb.topology, positions, solute, box, files)
    if (
        len(positions) != solvated.n_atoms
        or solvated.atom_names[: len(solute)] != molecule.solute_molecule().atom_names
    ):
        raise InputError(f"{directory}: start.pdb does not hold {molecule.name} in water; start a new run")
    return solvated


def variables_of(settings: Biased) -> tuple[str, ...]:
    """Collective variables that the bias acts on, as asked for or as its file says; none for the backbone torsions.

    Raises
    ------
    InputError
        If both say different ones.
    """
    path = Path(settings.bias)
    if path.suffix != ".npz" or not path.is_file():
        return settings.bias_cv
    stored = SavedBias.load(path).variables
    if settings.bias_cv and settings.bias_cv != stored:
        own = " ".join(stored) or "the backbone torsions"
        raise InputError(f"bias_cv {' '.join(settings.bias_cv)}: {path} is a bias on {own}; leave bias_cv away")
    return stored


def bias_for(molecule: Molecule, settings: Biased) -> DihedralBias | None:
    """The bias on the backbone torsions that ``settings.bias`` asks for, or None.

    Raises
    ------
    InputError, MissingError
        If it is neither a known word nor a readable bias file that fits the molecule.
    """
    if settings.bias == "none":
        return None
    if settings.bias == "metadynamics":
        growth = Tempering(
            settings.hill_height_kJ_mol,
            settings.hill_width_rad,
            settings.bias_factor,
            steps_for(settings.hill_every_ps, settings.timestep_fs),
        )
        return DihedralBias(molecule, settings.temperature_K, tempering=growth)
    path = Path(settings.bias)
    if path.suffix != ".npz":
        raise InputError(f"bias '{path}': expected 'metadynamics', 'none', or the bias.npz of an earlier run")
    return DihedralBias(molecule, settings.temperature_K, load_grid(path))
