"""What the speed benchmark runs: one OpenMM Context (or several) per contender, made from the public parts of mlsim."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from openmm import Context, Force, Platform, System

from benchmarks.pyg_schnet import PygEnergy, kept
from benchmarks.timing import interleaved
from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import Backend, BoundForceField, ForceField
from mlsim.deploy.bridges.openmm_force import Callback, python_force, torch_force, torchforce_problem
from mlsim.deploy.bridges.replicated import BatchedCallback, batched_force
from mlsim.deploy.card import Description
from mlsim.deploy.export import export
from mlsim.deploy.kernel.mechanics import Mechanics
from mlsim.md import platforms
from mlsim.md.engines import own_noise
from mlsim.md.integrator import CONSTRAINT_TOLERANCE, canonical, langevin_middle
from mlsim.md.prepare import minimise
from mlsim.md.settings import RunSettings
from mlsim.models.contract import create
from mlsim.models.issnet.solvation import ISSNetSettings
from mlsim.potentials.born import general_form
from mlsim.potentials.contract import PotentialRequest, Sum
from mlsim.potentials.copies import tiled
from mlsim.potentials.impulses import Impulses
from mlsim.potentials.named import FACTORIES
from mlsim.potentials.system import build_system, skeleton
from mlsim.potentials.vacuum import Vacuum

TIMESTEP_FS = 4.0
SETTINGS = RunSettings(ns=1.0, timestep_fs=TIMESTEP_FS)


@dataclass(eq=False)
class Engine:
    """Contexts that are stepped in turn; ``copies`` molecules move per step in each of them."""

    platform: str
    copies: int
    integrators: list[Any] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)

    def step(self, steps: int) -> None:
        """Step every Context."""
        for integrator in self.integrators:
            integrator.step(steps)


def engine(
    system: System,
    positions: np.ndarray,
    choice: platforms.PlatformChoice,
    integrator: Callable[[], Any],
    copies: int = 1,
    contexts: int = 1,
) -> Engine:
    """``contexts`` Contexts of one System, thermalised."""
    made = Engine(choice.name, copies * contexts)
    for k in range(contexts):
        one = integrator()
        context = Context(system, one, Platform.getPlatformByName(choice.name), choice.properties)
        context.setPositions(positions)
        context.setVelocitiesToTemperature(SETTINGS.temperature_K, k + 1)
        made.integrators.append(one)
        made.contexts.append(context)
    return made


def middle() -> Any:
    """The default integrator at 4 fs."""
    return langevin_middle(SETTINGS.temperature_K, SETTINGS.friction_per_ps, SETTINGS.timestep_ps, 7)


def fastest(system: System, positions: np.ndarray) -> platforms.PlatformChoice:
    """Reference, or the CPU platform with one thread, whichever takes less processor time for this System."""
    candidates = [REFERENCE] if system.getNumParticles() <= platforms.REFERENCE_LIMIT else []
    candidates.append(platforms.PlatformChoice("CPU", platforms.properties_for("CPU", 1), "one thread"))
    trials: dict[str, Callable[[int], None]] = {c.name: engine(system, positions, c, middle).step for c in candidates}
    rates, _ = interleaved(trials, 3, 0.05)
    return max(candidates, key=lambda c: float(np.median(rates[c.name])))


REFERENCE = platforms.PlatformChoice("Reference", {}, "no thread pool")


def classical(name: str, molecule: Molecule) -> Engine:
    """Vacuum, a GB model or TIP3P, as ``mlsim run`` would set it up, on its fastest platform."""
    potential = FACTORIES[name](None, PotentialRequest(molecule))
    prepared = potential.prepare(molecule)
    system = build_system(prepared, potential, "hbonds", SETTINGS.hydrogen_mass_Da)
    start = minimise(system, prepared.positions, SETTINGS, 100)
    return engine(system, start, fastest(system, start), middle)


def of_file(model: str, molecule: Molecule) -> Engine:
    """A GB model as OpenMM's parameter file writes it (``CustomGBForce``), on its fastest platform."""
    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da)
    system.addForce(general_form(model, molecule))
    start = minimise(system, molecule.positions, SETTINGS, 100)
    return engine(system, start, fastest(system, start), middle)


# ---- learned ----


def force_field(config: ISSNetSettings, molecule: Molecule, place: Path) -> ForceField:
    """A network of random weights, exported for ``molecule``: its cost is that of a trained one.

    Its energies are scaled down to 1e-3, so that it does not disturb the simulation.
    """
    directory = place / f"random-{molecule.name}-{config.digest()}"
    if not directory.exists():
        small = config.model_copy(update={"energy_scale": 1e-3, "baseline": "none"})
        model = create("issnet", small.model_dump(), 1)
        description = Description.parse(
            {
                "temperature_K": 300.0,
                "force_field": molecule.force_field[0],
                "water": "none",
                "training": {"atom_types": sorted(set(molecule.atom_types))},
            }
        )
        export(model, molecule, directory, description)
    return ForceField(ForceFieldArtifact.read(directory))


def learned(field_: ForceField, molecule: Molecule, backend: Backend, start: np.ndarray) -> Engine:
    """Vacuum plus the network through ``PythonForce``; the compiled kernel with the molecular mechanics, as in runs."""
    bound = field_.bind(molecule, backend)
    if backend != "compiled":
        return _with(python_force(bound, molecule.n_atoms), molecule, start)
    return engine(whole(bound, molecule), start, REFERENCE, middle)


def apart(field_: ForceField, molecule: Molecule, start: np.ndarray) -> Engine:
    """Vacuum by OpenMM plus the compiled network, for what the mechanics in the callback save."""
    return _with(python_force(field_.bind(molecule, "compiled"), molecule.n_atoms), molecule, start)


def whole(bound: BoundForceField, molecule: Molecule, impulses: Impulses | None = None) -> System:
    """The System of a run: compiled network and molecular mechanics in one force."""
    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da)
    mechanics = Mechanics.of(list(system.getForces()), molecule.n_atoms)
    system = skeleton(molecule, "hbonds", SETTINGS.hydrogen_mass_Da)
    system.addForce(python_force(bound, molecule.n_atoms, impulses, mechanics))
    return system


def seldom(field_: ForceField, molecule: Molecule, start: np.ndarray, every: int) -> Engine:
    """Vacuum plus the compiled network at every ``every``-th step, as ``learned_every`` has it."""
    impulses = Impulses(every)
    settings = SETTINGS.model_copy(update={"learned_every": every})
    system = whole(field_.bind(molecule), molecule, impulses)
    return engine(system, start, REFERENCE, lambda: canonical(settings, system, 7, impulses))


def own_streams(field_: ForceField, molecule: Molecule, copies: int, start: np.ndarray) -> Engine:
    """``copies`` molecules in one Context, each with its own random stream, as ``--context shared`` runs them."""
    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da, copies=copies)
    system.addForce(batched_force(field_.bind(molecule), copies))
    made = engine(
        system,
        tiled(start, copies),
        REFERENCE,
        lambda: own_noise.integrator(SETTINGS, CONSTRAINT_TOLERANCE),
        copies=copies,
    )
    own_noise.put(made.integrators[0], own_noise.start(range(copies), molecule.n_atoms))
    return made


def through_torchforce(field_: ForceField, molecule: Molecule, start: np.ndarray) -> Engine | None:
    """Vacuum plus the network through ``TorchForce``; None where openmmtorch cannot be used."""
    if torchforce_problem() is not None:
        return None
    return _with(torch_force(field_.bind(molecule, "torchscript")), molecule, start)


def pyg(config: ISSNetSettings, molecule: Molecule, start: np.ndarray) -> Engine:
    """Vacuum plus PyTorch Geometric's SchNet through the same ``PythonForce``."""
    import openmm

    evaluator = kept(PygEnergy(config, molecule.n_atoms))
    return _with(openmm.PythonForce(Callback(evaluator, "pyg")), molecule, start)


def _with(force: Force, molecule: Molecule, start: np.ndarray) -> Engine:
    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da)
    system.addForce(force)
    return engine(system, start, REFERENCE, middle)


def several(field_: ForceField, molecule: Molecule, copies: int, start: np.ndarray) -> Engine:
    """``copies`` independent Contexts with the compiled kernel, as ``mlsim run --replicas`` runs them."""
    return engine(whole(field_.bind(molecule), molecule), start, REFERENCE, middle, contexts=copies)


def together(
    field_: ForceField | None, molecule: Molecule, copies: int, start: np.ndarray, backend: Backend = "compiled"
) -> Engine:
    """``copies`` molecules in one Context: vacuum, or with one batched call of the network."""
    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da, copies=copies)
    if field_ is not None:
        system.addForce(batched_force(field_.bind(molecule, backend), copies))
    return engine(system, tiled(start, copies), REFERENCE, middle, copies=copies)


def pyg_together(config: ISSNetSettings, molecule: Molecule, copies: int, start: np.ndarray) -> Engine:
    """``copies`` molecules in one Context with PyTorch Geometric's SchNet in one batch."""
    import openmm

    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da, copies=copies)
    evaluator = kept(PygEnergy(config, molecule.n_atoms))
    system.addForce(openmm.PythonForce(BatchedCallback(evaluator, "pyg", copies)))
    return engine(system, tiled(start, copies), REFERENCE, middle, copies=copies)


# ---- parts of a step ----


def free(molecule: Molecule, start: np.ndarray) -> Engine:
    """Integrator and constraints without any force: what every step costs in OpenMM at least."""
    return engine(
        build_system(molecule, Sum("nothing", ()), "hbonds", SETTINGS.hydrogen_mass_Da), start, REFERENCE, middle
    )


def mechanics_alone(molecule: Molecule, start: np.ndarray) -> Callable[[int], None]:
    """Evaluations of the molecular mechanics as the callback of the compiled network does them."""
    system = build_system(molecule, Vacuum(), "hbonds", SETTINGS.hydrogen_mass_Da)
    mechanics = Mechanics.of(list(system.getForces()), molecule.n_atoms)
    assert mechanics is not None
    positions, forces = np.ascontiguousarray(start, dtype=np.float64), np.zeros((molecule.n_atoms, 3))

    def evaluate(units: int) -> None:
        for _ in range(units):
            mechanics.add(positions, forces)

    return evaluate


# ---- arithmetic ----


def multiplications(config: ISSNetSettings, n_atoms: int, n_pairs: int) -> int:
    """Fused multiply-adds of one energy with forces: matrix products per atom, table and sums per pair.

    Per atom forward 2 L + L (L - 1) / 2 products of F x F, the same backward; per pair, block and feature 3 for the
    cubic and 2 for the sums forward, 2 for its slope and 5 for the sums backward (the first block needs fewer).
    """
    wide, blocks = config.features, config.blocks
    products = 2 * blocks + blocks * (blocks - 1) // 2
    return n_atoms * wide**2 * 2 * products + n_pairs * wide * 12 * blocks


#: Multiply-adds per unit of :func:`products_in_cache`.
PRODUCTS = 100 * 24 * 64 * 64


def products_in_cache() -> Callable[[int], None]:
    """Products of [24, 64] and [64, 64] float32 that stay in the first-level cache: what a core can do at its best.

    By the kernel's own tiles, which reach the peak of the multiply-add units (BLAS does not everywhere).
    """
    import numba

    from mlsim.deploy.kernel.product import multiply

    a, b = (np.random.default_rng(1).normal(size=n).astype(np.float32) for n in (24 * 64, 64 * 64))
    c, start = np.zeros_like(a), np.zeros_like(a)

    @numba.njit
    def repeat(units: int, a: Any, b: Any, c: Any, start: Any) -> None:
        for _ in range(100 * units):
            multiply(a, 0, 64, b, 0, c, 0, 64, start, 0, 24, 64, 64)

    return lambda units: repeat(units, a, b, c, start)


def pairs_within(molecule: Molecule, cutoff_nm: float, positions: np.ndarray) -> int:
    """Pairs of atoms within the cutoff."""
    i, j = np.triu_indices(molecule.n_atoms, 1)
    return int((np.linalg.norm(positions[i] - positions[j], axis=1) < cutoff_nm).sum())


def one_thread() -> None:
    """One thread for torch, OpenMP and Numba in this process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
