"""From an explicit run and a run with the network to the ensembles of population matching.

Both ensembles are taken to that of the network's run, exp(-beta (U + V_run)): its frames count as they are, and an
explicit frame that was made under the bias V_frame has the weight exp(beta [V_frame(r) - V_run(r)]). With the same bias
in both runs all weights are one, which is the choice with the least variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlsim.analysis.reweight import bias_on_grid
from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.split import Split, repeated
from mlsim.errors import InputError
from mlsim.fitting.solvent.population_matching import Ensemble
from mlsim.potentials.dihedral_bias import load_grid
from mlsim.records import FitRecord
from mlsim.runs.trajectory import Run
from mlsim.shapes import Floats
from mlsim.units import kT


def first_split(first: FitRecord, frames: ForceFrames, source: str) -> Split:
    """The parts into which the first stage divided ``frames``.

    Raises
    ------
    InputError
        If it does not say, or the frames are not those that it was fitted to: held-out frames of the one stage must
        never be trained on in the other.
    """
    if first.split is None:
        raise InputError(
            f"{source}: was not fitted to one split set of frames; make the first stage with mlsim train issnet"
        )
    parts = repeated(frames, first.split)
    for name, part, digest in (
        ("training", parts.train, first.train_digest),
        ("held-out", parts.valid, first.valid_digest),
    ):
        if part.digest != digest:
            raise InputError(
                f"{source}: its {name} frames have digest {digest}, those of --data {part.digest}; give the files of "
                "the first stage, all of them and in the same order"
            )
    return parts


def require_temperature(first: FitRecord, run: Run) -> None:
    """Refuse a run at another temperature than that of the force data.

    Raises
    ------
    InputError
    """
    if first.temperature_K is not None and abs(first.temperature_K - run.temperature_K) > 1e-6:
        raise InputError(
            f"{run.directory}: was run at {run.temperature_K:g} K, the force data are of {first.temperature_K:g} K"
        )


def explicit_ensemble(frames: ForceFrames, run: Run, discard_ps: float) -> Ensemble:
    """Explicit frames later than ``discard_ps``, weighted to the bias of ``run``.

    Raises
    ------
    InputError
        If nothing is left.
    """
    kept = frames.time_ps > discard_ps
    if not kept.any():
        last = frames.time_ps.max()
        raise InputError(f"discard_ps: expected less than the {last:g} ps of the frames, got {discard_ps:g}")
    log_weights = (frames.bias[kept] - _run_bias(frames.cvs[kept], run)) / kT(run.temperature_K)
    return Ensemble.create(frames.positions[kept], np.exp(log_weights - log_weights.max()))


def generated_ensembles(run: Run, molecule: Molecule, discard_ps: float, held_out: float) -> tuple[Ensemble, Ensemble]:
    """Frames of the network's run, (training, held-out): the last part of every replica is held out.

    Raises
    ------
    InputError
        If the run is of another molecule, its bias grew, or no frame is left.
    """
    parts: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for replica in run.replicas:
        bias = replica.record.bias
        if bias is not None and bias.get("kind") != "fixed grid":
            raise InputError(f"{replica.directory}: the bias grew during this run; run with a fixed bias or none")
        solute = replica.record.molecule
        if solute is None or solute.digest != molecule.digest:
            raise InputError(f"{replica.directory}: is not a run of {molecule.name}")
        positions = replica.positions()[replica.times_ps() > discard_ps]
        cut = round(len(positions) * (1 - held_out))
        parts[0].append(positions[:cut])
        parts[1].append(positions[cut:])
    train, valid = (np.concatenate(p) for p in parts)
    if len(train) == 0 or len(valid) == 0:
        raise InputError(f"{run.directory}: too short for discard_ps {discard_ps:g} and held-out share {held_out:g}")
    return Ensemble.create(train), Ensemble.create(valid)


def _run_bias(cvs: Floats, run: Run) -> NDArray[np.float64]:
    """Bias of ``run`` at torsions [F, 2R], kJ/mol [F]."""
    replica = run.replicas[0]
    if replica.record.bias is None:
        return np.zeros(len(cvs))
    grids = load_grid(replica.directory / "bias.npz")
    return np.sum([bias_on_grid(grid, cvs[:, 2 * r : 2 * r + 2]) for r, grid in enumerate(grids)], axis=0)
