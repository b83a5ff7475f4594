"""Weights of biased runs: what each run directory says of its bias, and what may be pooled.

How runs are reweighted, by what their directories hold:

    no bias                                  equal weights
    a fixed bias                             exp(V / kT), V from the log
    several runs, different fixed biases     MBAR; V_k of every run at the frames of all; refused without overlap
    biases that grew (metadynamics)          exp([V(s, t) - c(t)] / kT), V from the log, c(t) from the history of the
                                             hills; each run normalised by itself

Runs without a bias, with a fixed and with a growing one are different ensembles and are not pooled. How far a growing
bias still was from its final form is reported as ``drift``: the root mean square, over the analysed frames with their
weights, of [V(s, t) - c(t)] - [V_end(s) - c_end], mean taken out.

Symbols: V -> ``bias``; c -> ``offset``; V_end -> ``grid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsim.analysis import observables, reweight
from mlsim.errors import InputError
from mlsim.runs.bias_file import FILE, SavedBias
from mlsim.shapes import Floats, Ints
from mlsim.units import KJ_PER_KCAL

if TYPE_CHECKING:
    from mlsim.runs.trajectory import Replica


@dataclass(frozen=True)
class FrameBias:
    """The bias of one replica at its frames.

    Attributes
    ----------
    bias : [F]
        What acted while each frame was sampled, kJ/mol (zeros without a bias).
    offset : [F]
        c(t), kJ/mol (zeros for a bias that did not grow).
    saved : SavedBias or None
        The bias file; None without a bias.
    angles : [F, 2R] or None
        Torsions that the grids are of, rad, or the variables that the bias is on.
    """

    bias: Floats
    offset: Floats
    saved: SavedBias | None
    angles: Floats | None

    def at_end(self) -> Floats:
        """The final bias at every frame [F], kJ/mol."""
        assert self.saved is not None
        assert self.angles is not None
        return grid_bias(self.saved, self.angles)


def frame_bias(replica: Replica, keep: np.ndarray, positions: Floats) -> FrameBias:
    """What the directory of a replica says of the bias at its kept frames.

    Parameters
    ----------
    keep : bool [F]
        Frames to keep.
    positions : [kept, N, 3]
        Their positions, nm.

    Raises
    ------
    InputError
        If the log has no finite bias, or a bias acted whose file, or the history of whose growth, is missing.
    """
    bias = np.asarray(replica.bias(), dtype=np.float64)[keep]
    if not np.isfinite(bias).all():
        count = int((~np.isfinite(bias)).sum())
        raise InputError(f"{replica.directory}/log.csv: {count} bias energies are no number")
    path = Path(replica.directory) / FILE
    if not bias.any():
        return FrameBias(bias, np.zeros_like(bias), None, None)
    if not path.is_file():
        raise InputError(f"{replica.directory}: the run is biased but {FILE} is missing; finish it with --resume")
    saved = SavedBias.load(path)
    numbers = [residue.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for residue in saved.residues]
    names = list(saved.variables) or [f"{angle}:{number}" for number in numbers for angle in ("phi", "psi")]
    angles = observables.evaluate(positions, replica.topology, names)
    if not saved.grown:
        return FrameBias(bias, np.zeros_like(bias), saved, angles)
    if saved.history is None:
        raise InputError(
            f"{path}: the bias grew and an earlier version kept no history of it; sample under the finished bias "
            f"(mlsim run ... --bias {path}), which reweights exactly"
        )
    offset, own = saved.history.before(replica.column("step")[keep].astype(np.int64))
    return FrameBias(bias - own, offset, saved, angles)


def pooled_log_weights(
    parts: Sequence[FrameBias], run: Ints, temperature_K: float
) -> tuple[Floats | None, dict[str, str]]:
    """Log weights of all frames (None: equal), and what is to be said about them.

    Parameters
    ----------
    parts : sequence of FrameBias
        One for each replica.
    run : [F]
        Replica of each frame, grouped.

    Raises
    ------
    InputError
        If runs with no, a fixed and a growing bias are mixed, or fixed ones do not overlap.
    """
    kinds = {"no bias" if p.saved is None else ("a growing bias" if p.saved.grown else "a fixed bias") for p in parts}
    if len(kinds) > 1:
        raise InputError(
            f"samples: runs with {' and '.join(sorted(kinds))} cannot be pooled; compare them as two candidates"
        )
    kind = kinds.pop()
    if kind == "no bias":
        return None, {}
    bias = np.concatenate([p.bias for p in parts])
    if kind == "a growing bias":
        offset = np.concatenate([p.offset for p in parts])
        own = reweight.growing_bias(bias, offset, temperature_K)
        return reweight.normalise_runs(own, run), {"bias": _drift(parts, own, run)}
    first = parts[0].saved
    assert first is not None
    others = {p.saved.variables for p in parts if p.saved is not None} - {first.variables}
    if others:
        named = [" ".join(v) or "the backbone torsions" for v in (first.variables, *others)]
        raise InputError(f"samples: runs with biases on {' and '.join(named)} cannot be pooled; compare them instead")
    if all(p.saved is not None and _same(p.saved.grid, first.grid) for p in parts):
        return reweight.static_bias(bias, temperature_K), {}
    angles = np.concatenate([p.angles for p in parts if p.angles is not None])
    table = np.stack([grid_bias(p.saved, angles) for p in parts if p.saved is not None])
    weights, overlap = reweight.mbar_with_overlap(table, [len(p.bias) for p in parts], temperature_K)
    return weights, {"bias": f"{len(parts)} fixed biases joined by MBAR, overlap {overlap:.2g} of 1"}


def grid_bias(saved: SavedBias, angles: Floats) -> Floats:
    """Sum over its grids of a bias (kJ/mol) at angles [F, 2R] (rad), or at the variables [F, D] that it is on."""
    each = len(saved.axes)
    parts = [angles[:, each * r : each * (r + 1)] for r in range(len(saved.grid))]
    return np.asarray(
        np.sum([reweight.bias_on_grid(g, cv, saved.axes) for g, cv in zip(saved.grid, parts, strict=True)], axis=0)
    )


def drift(part: FrameBias, log_weights: Floats) -> float:
    """How far the bias at the frames was from its final form, kJ/mol (see the module)."""
    weights = np.exp(log_weights - log_weights.max())
    away = part.bias - part.offset - part.at_end()
    away = away - np.average(away, weights=weights)
    return float(np.sqrt(np.average(np.square(away), weights=weights)))


def _drift(parts: Sequence[FrameBias], log_weights: Floats, run: Ints) -> str:
    each = [drift(p, log_weights[run == index]) / KJ_PER_KCAL for p, index in zip(parts, np.unique(run), strict=True)]
    worst = f"{max(each):.2f}" if len(each) == 1 else f"{min(each):.2f} to {max(each):.2f}"
    return (
        f"it grew while the frames were sampled (weights exp[(V - c(t))/kT]); at the analysed frames it was {worst} "
        "kcal/mol (rms) from its final form; a run under the finished bias (--bias bias.npz) reweights exactly"
    )


def _same(first: Floats, second: Floats) -> bool:
    return first.shape == second.shape and bool(np.allclose(first, second))
