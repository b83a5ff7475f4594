r"""Log weights that turn frames of one ensemble into another.

What: every function returns log weights [F] for ``surface.estimate``; only their differences matter.

    static bias            ln w = +beta V(s_t)
    final bias             ln w = +beta V_final(s_t), frames after the growth of a well-tempered metadynamics bias
    another Hamiltonian    ln w = -beta [U_target(x_t) - U_sampled(x_t)] + beta V(s_t)
    several static biases  ln w = -ln sum_k N_k exp[f_k - beta V_k(x_t)]           (MBAR, target without bias)

Why the final bias: at late times the well-tempered bias only breathes around V_final, which is then as good as static;
frames from before are not at equilibrium with it and must be discarded (``discard``). Weights are never clipped or
smoothed: that trades a visible variance for an invisible error. Look at the effective number of samples instead,
(sum w)^2 / sum w^2 (Kish): far below the number of frames means that the two ensembles hardly overlap.

Symbols: beta = 1 / ``kT``; V -> ``bias``; U -> ``energy``; N_k -> ``n_frames``; f_k -> pymbar's ``f_k``.

References: A. M. Ferrenberg and R. H. Swendsen, Phys. Rev. Lett. 61, 2635 (1988); A. Barducci, G. Bussi, M. Parrinello,
Phys. Rev. Lett. 100, 020603 (2008); M. R. Shirts and J. D. Chodera, J. Chem. Phys. 129, 124105 (2008).
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
from mlsim.shapes import Floats, Ints, require_shape
from mlsim.units import kT

__all__ = [
    "bias_on_grid",
    "discard",
    "effective_samples",
    "hamiltonian",
    "mbar",
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


def bias_on_grid(grid: Floats, cv: Floats) -> Floats:
    """A gridded periodic bias at each frame, by the periodic cubic spline through its points.

    Parameters
    ----------
    grid : [G, ...]
        Bias, kJ/mol, one axis per CV in the order of ``cv``; point g of an axis of G points lies at -pi + 2 pi g / G.
        (OpenMM's ``Metadynamics`` repeats the end point and puts the last CV first: pass ``total[:-1, :-1].T``.)
    cv : [F, C]
        Angles, rad, any period.

    Returns
    -------
    [F]
        Bias energy, kJ/mol.
    """
    from scipy.ndimage import map_coordinates

    grid = np.asarray(grid, dtype=np.float64)
    cv = require_shape(cv, (None, grid.ndim), "collective variables (rad)").astype(np.float64)
    fraction = np.mod(cv + np.pi, 2.0 * np.pi) / (2.0 * np.pi)
    return np.asarray(map_coordinates(grid, (fraction * np.array(grid.shape)).T, order=3, mode="grid-wrap"))


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
        If shapes disagree or the runs do not overlap enough for a solution.
    """
    counts = np.asarray(n_frames, dtype=np.int64)
    reduced = require_shape(bias, (len(counts), int(counts.sum())), "bias (kJ/mol)").astype(np.float64)
    reduced = reduced / kT(temperature_K)
    with _quiet_pymbar() as pymbar:
        try:
            solution = pymbar.MBAR(reduced, counts, solver_protocol="robust")
        except (ArithmeticError, ValueError, RuntimeError) as error:
            raise InputError(f"MBAR: no solution for {len(counts)} runs ({error}); do their biases overlap?") from None
    exponent = np.log(counts)[:, None] + np.asarray(solution.f_k)[:, None] - reduced
    if not np.isfinite(exponent).all():
        raise InputError(f"MBAR: no finite solution for {len(counts)} runs; do their biases overlap?")
    return -np.asarray(np.logaddexp.reduce(exponent, axis=0))


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
