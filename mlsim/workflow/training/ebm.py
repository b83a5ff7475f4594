"""Energy-based models from what is at hand: a test density's reference, force frames, a run, a trajectory.

    source                  conformations                                    prior
    dw4, lj13               stored long-run reference                        trap, cage, core
    frames.h5               positions, drawn with weights exp(+V / kT)       springs and bounds on distances
    run directory, .xtc     positions as they are                            the same

Force labels are not used. A bias V on the frames is undone in one of two ways, so that the model learns the unbiased
ensemble: with the bias at hand (``bias``), it stays in the energy of the learning problem and is left out of the model
(:mod:`mlsim.fitting.density.sampling_bias`); without it, frames are drawn with replacement with their weights. How many
frames that is worth (``effective``) goes into the record.
Held-out conformations are whole blocks of time, or for a reference, which is thinned to near independence, every
``1/held_out``-th.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mlsim.chem import cluster
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import ramachandran_atoms
from mlsim.dataset import conditions
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting.density.problem import FRESH_NOISE, Problem, conformations
from mlsim.fitting.density.sampling_bias import TorsionBias
from mlsim.models.contract import bind, create
from mlsim.potentials.dihedral_bias import load_grid
from mlsim.records import RUN_FILE, RunRecord
from mlsim.samplers.targets import stored_reference
from mlsim.seeds import numpy_stream
from mlsim.settings import Settings
from mlsim.shapes import Floats, Ints
from mlsim.units import kT
from mlsim.workflow import conformations as gathered
from mlsim.workflow.training.baseline import molecule_of
from mlsim.workflow.training.measured_prior import measure

#: Characteristic lengths (reduced) of the stored references, and of a molecule: a stiff bond's fluctuation times ten.
_LENGTHS = {"dw4": 1.0, "lj13": 0.3, "lj55": 0.3}
_MOLECULE_LENGTH = 0.3
_BLOCKS = 20
#: Frames whose recorded bias is compared with the grid, and the largest difference, kT (a bicubic map differs by 0.04).
_COMPARED, _BIAS_TOLERANCE = 500, 0.2


class NetworkSettings(Settings):
    """Size of the network; the rest of the model is measured on the data."""

    features: int = 32
    layers: int = 2
    n_radial: int = 16


class Recipe(Settings):
    """How to learn a density: what the trainer needs that depends on the data; lengths in units of the data's.

    Attributes
    ----------
    frames, epochs : int
        Most training conformations, and passes over them.
    warm : float
        Share of the steps that only denoise.
    negatives, steps, buffer, reset, noise
        As in :class:`mlsim.fitting.density.settings.ContrastiveSettings`.
    smoothing : float
        Its ``data_noise``.
    """

    frames: int = Field(10000, ge=2)
    epochs: int = Field(40, ge=1)
    warm: float = Field(0.5, ge=0.0, le=1.0)
    negatives: str = "langevin"
    steps: int = 10
    buffer: int = 1024
    reset: float = 0.05
    noise: float = 0.15
    smoothing: float = 0.0


#: For points without bonds, and for molecules.
_POINTS = Recipe()
_MOLECULE = Recipe(
    frames=20000, epochs=12, warm=0.17, negatives="kinetic", steps=20, buffer=256, reset=0.02, noise=0.1, smoothing=0.1
)


def recipe_for(source: str) -> Recipe:
    """The recipe for a stored reference, or for conformations of a molecule."""
    return _POINTS if source in stored_reference.available() else _MOLECULE


@dataclass(frozen=True, eq=False)
class Prepared:
    """A problem with the molecule that it is about, and facts for the record."""

    problem: Problem
    molecule: Molecule
    facts: dict[str, Any]


@dataclass(frozen=True)
class Stated:
    """What is known of the conformations: their temperature, K; force field and water, or None: export then asks."""

    temperature_K: float
    force_field: str | None = None
    water: str | None = None


@dataclass(frozen=True, eq=False)
class _Sample:
    """Conformations [F, N, 3] in reduced lengths; ``space`` 2: the third coordinate is zero."""

    molecule: Molecule
    train: Floats
    valid: Floats
    held_at: Stated
    space: int
    length: float
    origin: str
    effective: float
    bias: TorsionBias | None = None

    @property
    def temperature_K(self) -> float:
        """Temperature of the conformations, K."""
        return self.held_at.temperature_K


def prepare(
    source: str,
    network: NetworkSettings,
    recipe: Recipe,
    seed: int,
    system: str | None = None,
    held_out: float = 0.1,
    temperature_K: float | None = None,
    bias: Path | None = None,
) -> Prepared:
    """Model and data for contrastive training.

    Parameters
    ----------
    source : str
        ``dw4``, ``lj13``, force frames (``.h5``), a run directory or a trajectory.
    network : NetworkSettings
    recipe : Recipe
        Of it ``frames``, and ``smoothing``: the prior of a molecule is measured under it, and negatives begin with it.
    seed : int
        Root seed of weights and draws.
    system : str, optional
        Molecule of a run or trajectory; frames find theirs.
    held_out : float
        Share of the conformations kept for the held-out error.
    temperature_K : float, optional
        Temperature of the conformations, K. Frames and runs say it themselves; a trajectory does not. Of a reference,
        whose unit is kT, it decides the unit of the force field (300 if not given).
    bias : path, optional
        ``bias.npz`` of the run that the conformations are from.

    Raises
    ------
    MissingError, InputError
        If the source is not there, or not of the molecule.
    """
    if not 0.0 < held_out < 1.0:
        raise InputError(f"held_out: expected a share between 0 and 1, got {held_out}")
    if source in stored_reference.available():
        if bias is not None:
            raise InputError(f"'{source}': the stored references are unbiased; leave --bias away")
        found = _of_reference(source, recipe.frames, held_out, seed, temperature_K or 300.0)
    else:
        found = _of_conformations(Path(source), system, recipe.frames, held_out, seed, temperature_K, bias)
    molecule = found.molecule
    generator = numpy_stream(seed, "ebm.smoothing")
    noise = generator.normal(scale=recipe.smoothing * found.length, size=found.train.shape)
    seen = found.train + noise * (np.arange(3) < found.space)
    units = {"space": found.space, "length_nm": cluster.LENGTH_NM, "temperature_K": found.temperature_K}
    config = {**network.model_dump(), **units, **measure(seen, molecule, found.space, found.length)}
    bound = bind(create("ebm", config, seed), molecule.atom_types, molecule.charges)
    train, valid = (torch.from_numpy(x[..., : found.space]) for x in (found.train, found.valid))
    fresh = recipe.smoothing or FRESH_NOISE
    problem = conformations(bound, train, valid, found.length, fresh, found.bias)
    facts = {
        "molecule": molecule.name,
        "molecule_digest": molecule.digest,
        "data": f"{len(train)} conformations of {molecule.name} from {found.origin}",
        "effective_frames": round(found.effective, 1),
        "temperature_K": found.temperature_K,
    }
    if found.bias is not None:
        facts["bias_digest"] = found.bias.digest
    facts |= {"force_field": found.held_at.force_field, "water": found.held_at.water}
    return Prepared(problem, molecule, facts)


def reference_split(count: int, held_out: float, seed: int) -> tuple[Ints, Ints]:
    """Indices of the training and of the held-out configurations of a stored reference of ``count``."""
    order = numpy_stream(seed, "ebm.reference").permutation(count)
    n_valid = max(1, round(held_out * count))
    return order[n_valid:], order[:n_valid]


def _of_reference(name: str, most: int, held_out: float, seed: int, temperature_K: float) -> _Sample:
    molecule = cluster.named(name)
    if molecule is None:
        raise InputError(f"'{name}': no cluster of points belongs to this reference; use dw4 or lj13")
    stored = stored_reference.load(name).positions
    flat = stored.reshape(len(stored), molecule.n_atoms, -1)
    points = np.zeros((len(flat), molecule.n_atoms, 3))
    points[..., : flat.shape[-1]] = flat
    train_index, valid_index = reference_split(len(points), held_out, seed)
    train = points[train_index][:most]
    origin = f"the stored reference of {name}"
    return _Sample(
        molecule,
        train,
        points[valid_index],
        Stated(temperature_K, "none", "none"),
        flat.shape[-1],
        _LENGTHS[name],
        origin,
        float(len(train)),
    )


def _of_conformations(
    path: Path,
    system: str | None,
    most: int,
    held_out: float,
    seed: int,
    given: float | None,
    bias: Path | None,
) -> _Sample:
    log_weights = kept = None
    if path.suffix in (".h5", ".hdf5") and path.is_file():
        frames = ForceFrames.load(path)
        molecule = molecule_of(frames, system)
        log_weights = frames.bias / kT(_conditions(path, given).temperature_K)
    elif system is None:
        raise InputError(f"{path}: expected the molecule of these conformations; name it with --system")
    else:
        molecule = load_system(system).solute_molecule()
    found = gathered.read(path, molecule)
    held_at = _conditions(path, given)
    if bias is not None:
        kept = _bias(bias, molecule, found.positions, log_weights, held_at.temperature_K)
        log_weights = None
    held = held_blocks(len(found), held_out, seed)
    generator = numpy_stream(seed, "ebm.draws")
    parts, effective = [], 0.0
    for mask in (~held, held):
        index = np.flatnonzero(mask)
        weights = np.ones(len(index)) if log_weights is None else np.exp(log_weights[index] - log_weights.max())
        share = weights / weights.sum()
        count = min(most, len(index))
        if log_weights is None:
            chosen = generator.choice(index, count, replace=False)
        else:
            chosen = generator.choice(index, count, replace=True, p=share)
        parts.append(found.positions[chosen] / cluster.LENGTH_NM)
        effective = effective or float(1.0 / (share**2).sum())
    return _Sample(molecule, parts[0], parts[1], held_at, 3, _MOLECULE_LENGTH, found.source, effective, kept)


def _conditions(path: Path, given: float | None) -> Stated:
    """Conditions of conformations: what frames and runs say, else the temperature given and nothing more.

    Raises
    ------
    InputError
        If neither says the temperature, or they differ.
    """
    told = None
    if path.suffix in (".h5", ".hdf5") and path.is_file():
        told = conditions.known(ForceFrames.load(path).provenance)
    elif (path / RUN_FILE).is_file():
        told = conditions.known(RunRecord.read(path).model_dump())
    if told is None:
        if given is None:
            raise InputError(f"{path}: does not say its temperature; name it with --temperature")
        return Stated(given)
    if given is not None and given != told.temperature_K:
        raise InputError(f"--temperature {given:g}: {path} was made at {told.temperature_K:g} K; leave the option away")
    return Stated(told.temperature_K, told.force_field, told.water)


def held_blocks(count: int, held_out: float, seed: int) -> NDArray[np.bool_]:
    """Which of ``count`` conformations in the order of time are held out: whole blocks, a twentieth each."""
    block = np.minimum((_BLOCKS * np.arange(count)) // count, _BLOCKS - 1)
    generator = numpy_stream(seed, "ebm.conformations")
    return np.isin(block, generator.permutation(_BLOCKS)[: max(1, round(held_out * _BLOCKS))])


def _bias(
    path: Path, molecule: Molecule, positions: Floats, recorded: Floats | None, temperature_K: float
) -> TorsionBias:
    """The bias of ``path``, after a look whether it is that of the frames (``recorded``: V / kT, one per frame)."""
    labels, quadruples = ramachandran_atoms(molecule)
    grid = load_grid(path)
    if len(grid) != len(labels):
        raise InputError(f"{path}: expected a bias on {', '.join(labels)}, got {len(grid)} grids")
    bias = TorsionBias(grid / kT(temperature_K), quadruples)
    if recorded is not None:
        some = np.unique(np.linspace(0, len(positions) - 1, _COMPARED).astype(int))
        apart = np.abs(bias(torch.from_numpy(positions[some])).numpy() - recorded[some]).max()
        if apart > _BIAS_TOLERANCE:
            raise InputError(
                f"{path}: not the bias of these frames; theirs differs by up to {apart:.2g} kT (expected at most "
                f"{_BIAS_TOLERANCE}); leave --bias away to weight the frames instead"
            )
    return bias
