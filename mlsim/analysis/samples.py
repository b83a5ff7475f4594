r"""Weighted frames of collective variables, read from runs or force data: what a surface is estimated from.

What: ``from_runs`` pools the replicas of one or several runs of the same ensemble and finds their weights;
``from_frames`` does it for force data. Every replica is an independent run for blocks and noise.

How a run is reweighted, by what its directory holds:

    no bias                               equal weights
    a fixed bias                          exp(+V/kT), V from the log
    a grown (metadynamics) bias           exp(+V_final/kT), V_final = sum_r V_r(phi_r, psi_r) from ``bias.npz``
    several runs, different biases        MBAR over their (final) biases; V_k of every run at the frames of all

``discard_ps`` is cut from the start of every run; with a grown bias it should cover the growth phase.

Symbols: V -> ``bias``; r -> residue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsim.analysis import observables, reweight
from mlsim.analysis.surfaces import surface
from mlsim.errors import InputError
from mlsim.shapes import Floats, Ints

if TYPE_CHECKING:
    from mlsim.dataset.frames import ForceFrames
    from mlsim.runs.trajectory import Replica, Run


@dataclass(frozen=True)
class Samples:
    """Frames of one ensemble.

    Attributes
    ----------
    cv : [F, C]
        Collective variables, rad or nm.
    cv_names : tuple of str
        Their specs.
    temperature_K : float
        Temperature, K.
    log_weights : [F] or None
        Log weights of the unbiased ensemble; None: equal.
    run : [F]
        Independent run of each frame, grouped.
    label : str
        Name in tables and figures.
    provenance : dict
        Where they came from.
    """

    cv: Floats
    cv_names: tuple[str, ...]
    temperature_K: float
    log_weights: Floats | None
    run: Ints
    label: str
    provenance: dict[str, Any] = field(default_factory=dict)

    def surface(
        self, settings: surface.SurfaceSettings | None = None, edges: tuple[Floats, ...] | None = None
    ) -> surface.FreeEnergySurface:
        """Estimate their free-energy surface."""
        bare = surface.estimate(
            self.cv,
            self.temperature_K,
            cv_names=self.cv_names,
            log_weights=self.log_weights,
            run=self.run,
            edges=edges,
            settings=settings,
        )
        return bare.labelled(self.label, self.provenance)


@dataclass(frozen=True)
class _Piece:
    """One replica after discarding: CVs [F, C], bias at its frames [F], its bias grid and the angles the grid is of."""

    cv: Floats
    bias: Floats
    grid: Floats | None
    angles: Floats | None


def from_runs(
    runs: Sequence[Run], specs: Sequence[str], *, discard_ps: float = 0.0, temperature_K: float | None = None
) -> Samples:
    """Pool runs of one ensemble (all replicas of all runs).

    Parameters
    ----------
    runs : sequence of mlsim.runs.trajectory.Run
        Runs of the same molecule and Hamiltonian; biases may differ.
    specs : sequence of str
        CV specs, see ``observables``.
    discard_ps : float
        Start of every replica to leave out, ps.
    temperature_K : float or None
        Only to state what is expected: a run at another temperature is refused.

    Raises
    ------
    InputError
        If temperatures differ, nothing is left, or a grown bias was not saved.
    """
    if not runs:
        raise InputError("samples: expected at least one run, got none")
    temperature = _one_temperature([(str(r.directory), r.temperature_K) for r in runs], temperature_K)
    pieces = [_piece(replica, specs, discard_ps) for run in runs for replica in run.replicas]
    return Samples(
        cv=np.concatenate([p.cv for p in pieces]),
        cv_names=tuple(specs),
        temperature_K=temperature,
        log_weights=_pooled_log_weights(pieces, temperature),
        run=np.repeat(np.arange(len(pieces)), [len(p.cv) for p in pieces]),
        label=runs[0].label,
        provenance={
            "runs": [str(r.directory) for r in runs],
            "records": [r.record.model_dump(include={"seed", "potential", "versions"}) for r in runs],
            "discard_ps": discard_ps,
        },
    )


def from_frames(
    frames: ForceFrames, specs: Sequence[str], *, discard_ps: float = 0.0, temperature_K: float, label: str
) -> Samples:
    """Samples of force data, weighted by exp(+V/kT) with the bias stored at each frame.

    That is exact for a fixed bias. Data recorded while a bias grew are right for training but not for populations.

    Parameters
    ----------
    frames : ForceFrames
        Force data whose CVs include ``specs`` (``phi`` matches a column ``phi`` or ``phi_ALA2``).
    temperature_K : float
        Temperature, K.
    """
    keep = reweight.discard(np.asarray(frames.time_ps), np.asarray(frames.run), discard_ps)
    columns = [_column_of(spec, frames.cv_names) for spec in specs]
    bias = np.asarray(frames.bias, dtype=np.float64)[keep]
    run = np.asarray(frames.run, dtype=np.int64)[keep]
    log_weights = None if not bias.any() else reweight.static_bias(bias, temperature_K)
    return Samples(
        cv=np.asarray(frames.cvs, dtype=np.float64)[keep][:, columns],
        cv_names=tuple(specs),
        temperature_K=temperature_K,
        log_weights=log_weights,
        run=run,
        label=label,
        provenance={"frames": dict(frames.provenance), "discard_ps": discard_ps},
    )


def _one_temperature(found: Sequence[tuple[str, float]], expected: float | None) -> float:
    wanted = found[0][1] if expected is None else expected
    for name, value in found:
        if abs(value - wanted) > 0.01:
            raise InputError(f"{name}: expected a run at {wanted:g} K, it was run at {value:g} K")
    return float(wanted)


def _piece(replica: Replica, specs: Sequence[str], discard_ps: float) -> _Piece:
    times = replica.times_ps()
    if len(times) == 0:
        raise InputError(f"{replica.directory}: the run has no frames yet")
    keep = _after(times, discard_ps, replica.directory)
    positions = replica.positions()[keep]
    cv = observables.evaluate(positions, replica.topology, specs)
    bias = np.asarray(replica.bias(), dtype=np.float64)[keep]
    path = Path(replica.directory) / "bias.npz"
    if not bias.any():
        return _Piece(cv, bias, None, None)
    if not path.is_file():
        raise InputError(f"{replica.directory}: the run is biased but bias.npz is missing; finish it with --resume")
    with np.load(path, allow_pickle=False) as archive:
        grid, residues, factor = archive["grid"], [str(r) for r in archive["residues"]], float(archive["bias_factor"])
    numbers = [residue.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for residue in residues]
    names = [f"{angle}:{number}" for number in numbers for angle in ("phi", "psi")]
    angles = observables.evaluate(positions, replica.topology, names)
    grown = np.isfinite(factor)
    return _Piece(cv, _grid_bias(grid, angles) if grown else bias, grid, angles)


def _after(times: Floats, discard_ps: float, directory: Path) -> np.ndarray:
    try:
        return reweight.discard(times, np.zeros(len(times), dtype=np.int64), discard_ps)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from None


def _grid_bias(grid: Floats, angles: Floats) -> Floats:
    """Sum over residues of the gridded bias; grid [R, G, G] kJ/mol, angles [F, 2R] rad."""
    return np.sum([reweight.bias_on_grid(g, angles[:, 2 * r : 2 * r + 2]) for r, g in enumerate(grid)], axis=0)


def _pooled_log_weights(pieces: Sequence[_Piece], temperature_K: float) -> Floats | None:
    biased = [p for p in pieces if p.grid is not None]
    if not biased:
        return None
    own = reweight.static_bias(np.concatenate([p.bias for p in pieces]), temperature_K)
    first = biased[0].grid
    if len(biased) == len(pieces) and all(_same(p.grid, first) for p in pieces):
        return own
    if len(biased) < len(pieces):
        raise InputError("samples: biased and unbiased runs cannot be pooled; compare them as two candidates")
    angles = np.concatenate([p.angles for p in biased if p.angles is not None])
    table = np.stack([_grid_bias(p.grid, angles) for p in biased if p.grid is not None])
    return reweight.mbar(table, [len(p.cv) for p in pieces], temperature_K)


def _same(first: Floats | None, second: Floats | None) -> bool:
    return first is not None and second is not None and first.shape == second.shape and np.allclose(first, second)


def _column_of(spec: str, names: Sequence[str]) -> int:
    """Column of force data that a spec asks for."""
    if spec in names:
        return list(names).index(spec)
    wanted = observables.parse(spec)
    pattern = re.compile(rf"{wanted.name}_[A-Z]+{wanted.selection or '-?[0-9]+'}")
    found = [i for i, name in enumerate(names) if pattern.fullmatch(name)]
    if len(found) != 1:
        raise InputError(f"collective variable '{spec}': expected one of the stored columns {' '.join(names)}")
    return found[0]
