r"""Log weights that turn frames of one ensemble into another.

What: every function returns log weights [F] for ``surface.estimate``; only their differences matter.

    static bias            ln w = +beta V(s_t)
    growing bias           ln w = +beta [V(s_t, t) - c(t)]
    another Hamiltonian    ln w = -beta [U_target(x_t) - U_sampled(x_t)] + beta V(s_t)
    several static biases  ln w = -ln sum_k N_k exp[f_k - beta V_k(x_t)]           (MBAR, target without bias)

Why not the final bias for all frames of a metadynamics run: the bias of that time was another one, and what a run has
not seen yet looks forbidden under its final bias, most of all to MBAR. With the constant c(t) of Tiwary and Parrinello
every frame has the weight of its own time. That is exact for a bias that changes slowly; the exact way is a second run
under the finished bias. Weights are never clipped or smoothed: that trades a visible variance for an invisible error.
Look at the effective number of samples instead, (sum w)^2 / sum w^2 (Kish).

MBAR needs runs that overlap: the overlap is 1 - lambda_2 with the second eigenvalue lambda_2 of the matrix
O_kl = N_l sum_t w_k(t) w_l(t); at 0 the runs fall into groups whose relative weight nothing in the data says.

Symbols: beta = 1 / ``kT``; V -> ``bias``; c -> ``offset``; U -> ``energy``; N_k -> ``n_frames``; f_k -> ``f``.

References: A. M. Ferrenberg and R. H. Swendsen, Phys. Rev. Lett. 61, 2635 (1988); P. Tiwary and M. Parrinello, J. Phys.
Chem. B 119, 736 (2015); M. R. Shirts and J. D. Chodera, J. Chem. Phys. 129, 124105 (2008); P. V. Klimovich,
M. R. Shirts, D. L. Mobley, J. Comput. Aided Mol. Des. 29, 397 (2015).
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from mlsim.analysis.uncertainty import effective_samples
from mlsim.errors import InputError
from mlsim.runs.coordinate import CIRCLE, Axis
from mlsim.shapes import Floats, Ints, require_shape
from mlsim.units import kT

#: Overlap of several runs (0 .. 1) below which they are not joined.
LEAST_OVERLAP = 0.01
#: Largest error of a run's free energy, kT.
_SELF_CONSISTENT = 1e-3

__all__ = [
    "LEAST_OVERLAP",
    "bias_on_grid",
    "discard",
    "effective_samples",
    "growing_bias",
    "hamiltonian",
    "mbar",
    "mbar_with_overlap",
    "normalise_runs",
    "static_bias",
]


def static_bias(bias: Floats, temperature_K: float) -> Floats:
    """Log weights [F] that remove a static bias.

    Parameters
    ----------
    bias : [F]
        Bias energy at each frame, kJ/mol.
    temperature_K : float
        Temperature of the simulation, K.
    """
    return require_shape(bias, (None,), "bias (kJ/mol)").astype(np.float64) / kT(temperature_K)


def growing_bias(bias: Floats, offset: Floats, temperature_K: float) -> Floats:
    """Log weights [F] of frames that were sampled while a well-tempered bias grew.

    Parameters
    ----------
    bias : [F]
        V(s, t): bias of its own time at each frame, kJ/mol.
    offset : [F]
        c(t) at each frame, kJ/mol.
    temperature_K : float
        Temperature of the simulation, K.
    """
    offset = require_shape(offset, (len(bias),), "offset c(t) (kJ/mol)").astype(np.float64)
    return static_bias(bias - offset, temperature_K)


def hamiltonian(
    target_energy: Floats, sampled_energy: Floats, temperature_K: float, bias: Floats | None = None
) -> Floats:
    """Log weights [F] from the ensemble of one Hamiltonian (plus an optional static bias) to that of another.

    Parameters
    ----------
    target_energy, sampled_energy : [F]
        Potential energy of each frame under the wanted and under the sampled Hamiltonian, bias excluded, kJ/mol.
    temperature_K : float
        Temperature of both, K.
    bias : [F] or None
        Static bias that acted during sampling, kJ/mol.
    """
    target = require_shape(target_energy, (None,), "target energy (kJ/mol)").astype(np.float64)
    sampled = require_shape(sampled_energy, (len(target),), "sampled energy (kJ/mol)").astype(np.float64)
    log_weights = -(target - sampled) / kT(temperature_K)
    return log_weights if bias is None else log_weights + static_bias(bias, temperature_K)


def bias_on_grid(grid: Floats, cv: Floats, axes: Sequence[Axis] | None = None) -> Floats:
    """A gridded bias at each frame, by the cubic spline through its points.

    Parameters
    ----------
    grid : [G, ...]
        Bias, kJ/mol, one axis per CV in the order of ``cv``; point g of an axis of G points lies at -pi + 2 pi g / G.
        (OpenMM's ``Metadynamics`` repeats the end point and puts the last CV first: pass ``total[:-1, :-1].T``.)
    cv : [F, C]
        Angles, rad, any period, or what ``axes`` are of.
    axes : sequence of Axis or None
        Range of each CV; beyond that of one that is not periodic the bias is constant. None: all are angles.

    Returns
    -------
    [F]
        Bias energy, kJ/mol.
    """
    from scipy.ndimage import map_coordinates

    grid = np.asarray(grid, dtype=np.float64)
    cv = require_shape(cv, (None, grid.ndim), "collective variables (rad)").astype(np.float64)
    if axes is not None and not all(axis == CIRCLE for axis in axes):
        return _on_axes(grid, cv, axes)
    fraction = np.mod(cv + np.pi, 2.0 * np.pi) / (2.0 * np.pi)
    return np.asarray(map_coordinates(grid, (fraction * np.array(grid.shape)).T, order=3, mode="grid-wrap"))


def _on_axes(grid: Floats, cv: Floats, axes: Sequence[Axis]) -> Floats:
    from scipy.ndimage import map_coordinates

    beyond = 12  # points past the seam of a periodic axis: the spline forgets its end by then
    places = []
    for axis, count, column in zip(axes, grid.shape, cv.T, strict=True):
        share = (column - axis.low) / axis.span
        places.append(np.mod(share, 1.0) * count + beyond if axis.periodic else np.clip(share, 0.0, 1.0) * (count - 1))
    padded = np.pad(grid, [(beyond, beyond) if axis.periodic else (0, 0) for axis in axes], mode="wrap")
    return np.asarray(map_coordinates(padded, np.array(places), order=3, mode="nearest"))


def discard(time_ps: Floats, run: Ints, discard_ps: float) -> np.ndarray:
    """Mask [F] of the frames at least ``discard_ps`` after the first frame's run began.

    Parameters
    ----------
    time_ps : [F]
        Simulation time of each frame, ps (every run starts at zero).
    run : [F]
        Run of each frame.
    discard_ps : float
        Start of each run that is left out (equilibration, growth of a metadynamics bias), ps.

    Raises
    ------
    InputError
        If nothing would be left of a run.
    """
    if discard_ps < 0.0:
        raise InputError(f"discard: expected a time >= 0 ps, got {discard_ps:g}")
    keep = np.asarray(time_ps) >= discard_ps
    for index in np.unique(run):
        if not keep[run == index].any():
            last = float(np.max(time_ps[run == index]))
            raise InputError(f"discard: {discard_ps:g} ps leaves nothing of run {index}, which ends at {last:g} ps")
    return keep


def normalise_runs(log_weights: Floats, run: Ints) -> Floats:
    """Give every run a total weight equal to its number of frames.

    Needed where runs had different biases whose constants are unrelated (several metadynamics seeds) and no bias is
    known at the frames of the others; where it is, ``mbar`` wastes less.

    Parameters
    ----------
    log_weights : [F]
        Log weights, each run with its own unknown constant.
    run : [F]
        Run of each frame.
    """
    result = np.array(log_weights, dtype=np.float64)
    for index in np.unique(run):
        mine = run == index
        top = result[mine].max()
        result[mine] -= top + np.log(np.mean(np.exp(result[mine] - top)))
    return result


def mbar(bias: Floats, n_frames: Sequence[int], temperature_K: float) -> Floats:
    """Log weights [F] of the unbiased ensemble from several runs with different static biases.

    Parameters
    ----------
    bias : [K, F]
        Bias of run k evaluated at every frame of all runs, kJ/mol (frames in the order of the runs).
    n_frames : sequence of int
        Frames of each run, sum F. Correlated data: the weights stay right, errors come from the block bootstrap.
    temperature_K : float
        Temperature of all runs, K.

    Raises
    ------
    InputError
        If shapes disagree, the runs overlap by less than ``LEAST_OVERLAP``, or no self-consistent f_k are found.
    """
    return mbar_with_overlap(bias, n_frames, temperature_K)[0]


def mbar_with_overlap(bias: Floats, n_frames: Sequence[int], temperature_K: float) -> tuple[Floats, float]:
    """As ``mbar``, with the overlap of the runs (1: one ensemble; 0: groups that share no conformation)."""
    counts = np.asarray(n_frames, dtype=np.int64)
    reduced = require_shape(bias, (len(counts), int(counts.sum())), "bias (kJ/mol)").astype(np.float64)
    reduced = reduced / kT(temperature_K)
    reduced = reduced - reduced.min(axis=1, keepdims=True)  # a constant in one bias decides nothing
    with _quiet_pymbar() as pymbar:
        try:
            solution = pymbar.MBAR(reduced, counts, solver_protocol="robust")
        except (ArithmeticError, ValueError, RuntimeError) as error:
            raise InputError(f"MBAR: no solution for {len(counts)} runs ({error}); do their biases overlap?") from None
    f = np.asarray(solution.f_k, dtype=np.float64)
    exponent = np.log(counts)[:, None] + f[:, None] - reduced
    if not np.isfinite(exponent).all():
        raise InputError(f"MBAR: no finite solution for {len(counts)} runs; do their biases overlap?")
    log_weights = -np.asarray(np.logaddexp.reduce(exponent, axis=0))
    weights = np.exp(f[:, None] - reduced + log_weights)  # [K, F]; rows sum to 1 where f is self-consistent
    overlap = _overlap(weights / weights.sum(axis=1, keepdims=True), counts)
    if overlap < LEAST_OVERLAP:
        raise InputError(
            f"MBAR: the {len(counts)} runs overlap by {overlap:.1g} (1 - second eigenvalue of the overlap matrix), "
            f"expected at least {LEAST_OVERLAP:g}; nothing says how much their parts weigh: add runs between them"
        )
    residual = float(np.abs(np.log(weights.sum(axis=1))).max())
    if residual > _SELF_CONSISTENT:
        raise InputError(
            f"MBAR: free energies of {len(counts)} runs are not self-consistent (off by {residual:.1g} kT, overlap "
            f"{overlap:.2g}); add runs between them"
        )
    return log_weights, overlap


def _overlap(weights: Floats, counts: Ints) -> float:
    """1 - second eigenvalue of the overlap matrix; weights [K, F] with rows that sum to 1, counts [K]."""
    if len(counts) == 1:
        return 1.0
    root = np.sqrt(counts)
    matrix = root[:, None] * (weights @ weights.T) * root[None, :]  # similar to N_l sum w_k w_l, and symmetric
    return float(max(0.0, 1.0 - np.sort(np.linalg.eigvalsh(matrix))[-2]))


@contextmanager
def _quiet_pymbar() -> Iterator[ModuleType]:
    """Import and use pymbar without its JAX banner, its import-time warning and its switch of JAX to 64 bit."""
    names = ("pymbar.mbar_solvers", "pymbar.timeseries")
    levels = {name: logging.getLogger(name).level for name in names}
    before = os.environ.get("PYMBAR_DISABLE_JAX")
    os.environ["PYMBAR_DISABLE_JAX"] = "TRUE"
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield importlib.import_module("pymbar")
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if before is None:
            del os.environ["PYMBAR_DISABLE_JAX"]
        else:
            os.environ["PYMBAR_DISABLE_JAX"] = before
