"""Weighted frames of collective variables, read from runs or force data: what a surface is estimated from.

What: ``from_runs`` pools the replicas of one or several runs of the same ensemble and finds their weights (``biased``);
``from_frames`` does it for force data. Every replica is an independent run for blocks and noise. What is pooled is of
one molecule, one potential and one temperature, and no run is there twice (``subject``).

``discard_ps`` is cut from the start of every run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsim.analysis import biased, observables, reweight
from mlsim.analysis.surfaces import surface
from mlsim.analysis.surfaces.subject import Subject, digest, require_one_ensemble
from mlsim.analysis.uncertainty import run_slices
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
        Name in tables and figures: system and solvent.
    subject : Subject or None
        Molecule, potential and runs; None for force data that do not say them.
    provenance : dict
        Where they came from.
    time_ps : [F] or None
        Time of each frame in its run, ps; None where the data do not say.
    """

    cv: Floats
    cv_names: tuple[str, ...]
    temperature_K: float
    log_weights: Floats | None
    run: Ints
    label: str
    subject: Subject | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    time_ps: Floats | None = None

    def select(self, specs: Sequence[str]) -> Samples:
        """The same frames with these CVs only (all of them must be there)."""
        columns = [self.cv_names.index(spec) for spec in specs]
        return replace(self, cv=self.cv[:, columns], cv_names=tuple(specs))

    @property
    def sampled_ps(self) -> float:
        """Simulated time behind the frames, all runs together, ps; NaN where the data do not say."""
        if self.time_ps is None:
            return float("nan")
        parts = [self.time_ps[part] for part in run_slices(self.run)]
        return float(sum(_duration(times) for times in parts))

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
        named = bare.labelled(self.label, self.provenance, self.subject)
        return replace(named, sampled_ps=self.sampled_ps)


def from_runs(
    runs: Sequence[Run], specs: Sequence[str], *, discard_ps: float = 0.0, temperature_K: float | None = None
) -> Samples:
    """Pool runs of one ensemble (all replicas of all runs).

    Parameters
    ----------
    runs : sequence of mlsim.runs.trajectory.Run
        Runs of the same molecule and Hamiltonian; fixed biases may differ.
    specs : sequence of str
        CV specs, see ``observables``.
    discard_ps : float
        Start of every replica to leave out, ps.
    temperature_K : float or None
        Only to state what is expected: a run at another temperature is refused.

    Raises
    ------
    InputError
        If temperatures, molecules or potentials differ, a run is there twice, nothing is left, or the runs' biases
        cannot be pooled.
    """
    if not runs:
        raise InputError("samples: expected at least one run, got none")
    temperature = _one_temperature([(str(r.directory), r.temperature_K) for r in runs], temperature_K)
    replicas = [replica for run in runs for replica in run.replicas]
    subject = require_one_ensemble([(str(replica.directory), _subject(replica)) for replica in replicas])
    names = observables.canonical(replicas[0].topology, specs)
    pieces = [_piece(replica, specs, discard_ps) for replica in replicas]
    run = np.repeat(np.arange(len(pieces)), [len(piece.cv) for piece in pieces])
    log_weights, remarks = biased.pooled_log_weights([piece.bias for piece in pieces], run, temperature)
    return Samples(
        cv=np.concatenate([piece.cv for piece in pieces]),
        cv_names=names,
        temperature_K=temperature,
        log_weights=log_weights,
        run=run,
        label=subject.label,
        subject=subject,
        provenance={
            "runs": [str(r.directory) for r in runs],
            "records": [r.record.model_dump(include={"seed", "potential", "versions"}) for r in runs],
            "discard_ps": discard_ps,
            "reweighting": remarks,
        },
        time_ps=np.concatenate([piece.time_ps for piece in pieces]),
    )


def _subject(replica: Replica) -> Subject:
    """What a replica's record says that it is of.

    Raises
    ------
    InputError
        If the record lacks its molecule, solvent or identity.
    """
    record = replica.record
    molecule, solvent = record.molecule, record.settings.get("solvent")
    facts = {"molecule": molecule, "settings.solvent": solvent, "identity": record.identity}
    missing = [name for name, value in facts.items() if value is None]
    if molecule is None or missing:
        raise InputError(
            f"{replica.directory}: its run.json lacks {', '.join(missing)}; expected a record of mlsim run or reference"
        )
    return Subject(
        system=molecule.name,
        molecule=molecule.digest,
        solvent=str(solvent),
        potential=digest(record.potential),
        sources=(digest([molecule.digest, record.potential, record.identity, record.seed]),),
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
    subject = _frames_subject(frames, label)
    return Samples(
        cv=np.asarray(frames.cvs, dtype=np.float64)[keep][:, columns],
        cv_names=_names_of_columns([frames.cv_names[k] for k in columns], specs, frames.cv_names),
        temperature_K=temperature_K,
        log_weights=log_weights,
        run=run,
        label=label if subject is None else subject.label,
        subject=subject,
        provenance={"frames": dict(frames.provenance), "discard_ps": discard_ps},
        time_ps=np.asarray(frames.time_ps, dtype=np.float64)[keep],
    )


def records_of(frames: ForceFrames) -> list[dict[str, Any]]:
    """Records of the runs behind force data, also of files that were joined."""

    def flat(provenance: dict[str, Any]) -> list[dict[str, Any]]:
        inner = [record for part in provenance.get("joined", []) for record in flat(part)]
        return [record for record in provenance.get("runs", []) if isinstance(record, dict)] + inner

    return flat(dict(frames.provenance))


def _frames_subject(frames: ForceFrames, label: str) -> Subject | None:
    """What force data are of; None if they do not say their potential.

    Raises
    ------
    InputError
        If they hold runs of several potentials.
    """
    parts = []
    for record in records_of(frames):
        settings, potential = record.get("settings") or {}, record.get("potential")
        if potential is None or "solvent" not in settings:
            return None
        decisive = {k: v for k, v in settings.items() if k not in ("ns", "max_hours", "checkpoint_minutes")}
        parts.append(
            Subject(
                system=str(settings.get("system", label)),
                molecule=frames.molecule_digest,
                solvent=str(settings["solvent"]),
                potential=digest(potential),
                sources=(digest([frames.molecule_digest, potential, decisive, record.get("seed")]),),
            )
        )
    return require_one_ensemble([(f"{label}, run {k + 1}", part) for k, part in enumerate(parts)]) if parts else None


def _one_temperature(found: Sequence[tuple[str, float]], expected: float | None) -> float:
    wanted = found[0][1] if expected is None else expected
    for name, value in found:
        if abs(value - wanted) > 0.01:
            raise InputError(f"{name}: expected a run at {wanted:g} K, it was run at {value:g} K")
    return float(wanted)


@dataclass(frozen=True)
class _Piece:
    """Frames of one replica after discarding: CVs [F, C], times [F] (ps), and the bias that acted."""

    cv: Floats
    time_ps: Floats
    bias: biased.FrameBias


def _piece(replica: Replica, specs: Sequence[str], discard_ps: float) -> _Piece:
    times = replica.times_ps()
    if len(times) == 0:
        raise InputError(f"{replica.directory}: the run has no frames yet")
    keep = _after(times, discard_ps, replica.directory)
    positions = replica.positions()[keep]
    cv = observables.evaluate(positions, replica.topology, specs)
    return _Piece(cv, np.asarray(times, dtype=np.float64)[keep], biased.frame_bias(replica, keep, positions))


def _duration(times: Floats) -> float:
    """Time that frames stand for, ps: from the first to the last, and one spacing."""
    return float(times[-1] - times[0]) * len(times) / (len(times) - 1) if len(times) > 1 else 0.0


def _after(times: Floats, discard_ps: float, directory: Path) -> np.ndarray:
    try:
        return reweight.discard(times, np.zeros(len(times), dtype=np.int64), discard_ps)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from None


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


def _names_of_columns(columns: Sequence[str], specs: Sequence[str], stored: Sequence[str]) -> tuple[str, ...]:
    """Specs in the form in which they are kept: phi:2 is phi where the data hold one phi only."""
    names = []
    for column, spec in zip(columns, specs, strict=True):
        wanted = observables.parse(spec)
        twins = [name for name in stored if name.startswith(f"{wanted.name}_")]
        names.append(wanted.name if column in twins and len(twins) == 1 else wanted.text)
    return tuple(names)
