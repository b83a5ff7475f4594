"""One round of active learning: run, find what the committee is unsure of, label that, train again.

::

    DIR/run            MD with the first member (a bias flattens it, so that barriers are visited)
        labels/        frozen-solute labels of frames among the most uncertain ones, spread over the torsions
        fit-K          training of member K from the beginning, on the old labels and the new
        forcefields/   the new members, verified

Why uncertain *and* spread: the most uncertain frames of a run are neighbours of each other, a picosecond apart. So the
uncertain share is taken first, and the labels cover that.

Why train from the beginning: the committee's spread means something only while its members are independent fits.

Each part is left alone if it is finished and continued if not, so the same call carries on after any kill.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.dataset.region import FILE as GUARD
from mlsim.dataset.region import TrainedRegion
from mlsim.dataset.split import by_block
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import ForceField, load_forcefield
from mlsim.deploy.card import Measured, Training
from mlsim.deploy.committee import Committee
from mlsim.deploy.export import export
from mlsim.deploy.verify import verified
from mlsim.errors import InputError
from mlsim.fitting import checkpoint
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.force_error import predict
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors, mean_force_errors
from mlsim.fitting.solvent.mean_force_matching import defaults, fit
from mlsim.md.settings import LabelSettings, RunSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.models.contract import AbstractEnergyModel, create
from mlsim.records import RUN_FILE, FitRecord, RunRecord
from mlsim.runs.restart import begun
from mlsim.workflow.conformations import Conformations, read
from mlsim.workflow.force_data.label import FRAMES, UNITS_PER_LABEL, finished, label
from mlsim.workflow.force_fields.field_settings import plain_name
from mlsim.workflow.simulation.run import run as run_md
from mlsim.workflow.training.baseline import baseline_for, born_forces
from mlsim.workflow.training.fit_settings import RefineSettings

__all__ = ["UNITS_PER_LABEL", "Member", "RefineSettings", "collect", "committee", "finished", "refine", "retrain"]

#: Shortest label of a round, ps, unless all of them are shorter.
LABEL_MIN_PS = 20.0


@dataclass(frozen=True)
class Member:
    """A new member: its artifact and its error on test labels, noise removed (None if it was made by earlier call)."""

    artifact: ForceFieldArtifact
    errors: MeanForceErrors | None


def committee(names: Sequence[str], system: str) -> Committee:
    """Force fields by name, bound to a system."""
    return Committee.of([load_forcefield(forcefield_directory(name)) for name in names], load_system(system))


def uncertain(found: Conformations, spread: Any, share: float, least: int) -> Conformations:
    """The ``share`` of conformations with the largest ``spread`` [F], at least ``least`` (or all)."""
    count = min(len(found), max(least, round(share * len(found))))
    index = np.sort(np.argsort(spread, kind="stable")[len(found) - count :])
    return found.take(index)


def requests(settings: RefineSettings) -> tuple[RunSettings, LabelSettings]:
    """Settings of the run and of the labels of a round."""
    run = RunSettings.parse(settings.model_dump(include={"system", "ns", "bias", "seed"}), "refine")
    keys = {"system", "count", "stderr_kJ_mol_nm", "max_ps", "seed", "platform", "threads"}
    values = settings.model_dump(include=keys) | {"min_ps": min(LABEL_MIN_PS, settings.max_ps)}
    return run, LabelSettings.parse(values, "refine")


def refine(
    names: Sequence[str],
    name: str,
    directory: str | Path,
    settings: RefineSettings,
    data: Sequence[Path] = (),
    *,
    progress: tuple[Progress | None, Progress | None] = (None, None),
    stop: StopRequest | None = None,
) -> tuple[Member, ...] | None:
    """One round of active learning; the same call continues it.

    Parameters
    ----------
    names : sequence of str
        Force fields of the committee; the first drives the run.
    name : str
        New members are called ``name``-1, ``name``-2, ...
    directory : str or Path
        Directory of the round.
    settings : RefineSettings
    data : sequence of Path
        Earlier labels to train on as well.
    progress : (of the run, of the labels)

    Returns
    -------
    tuple of Member or None
        The new members, verified; None if it was stopped before all labels were made.

    Raises
    ------
    InputError, ArtifactError
        As :func:`collect` and :func:`retrain`.
    """
    place, (run, labels) = Path(directory), requests(settings)
    if collect(names, run, labels, settings, place, progress=progress, stop=stop) is None:
        return None
    training: dict[str, Any] = {"block_ps": settings.block_ps}
    training |= {} if settings.epochs is None else {"epochs": settings.epochs}
    return retrain(names, data, training, settings, place, plain_name(name), settings.system)


def collect(
    names: Sequence[str],
    run: RunSettings,
    labels: LabelSettings,
    settings: RefineSettings,
    directory: Path,
    *,
    progress: tuple[Progress | None, Progress | None] = (None, None),
    stop: StopRequest | None = None,
) -> Path | None:
    """Run with the first member, choose, and label; returns the label file, or None if stopped before it is complete.

    Parameters
    ----------
    names : sequence of str
        Force fields; the first drives the run.
    run : RunSettings
        Its solvent is replaced.
    progress : (of the run, of the labels)

    Raises
    ------
    InputError
        If the committee cannot be formed or the run is too short.
    """
    stop = stop or StopRequest()
    place, target = directory / "run", directory / "labels"
    members = committee(names, run.system)
    if not _complete(place):
        made = run.model_copy(update={"solvent": f"learned:{names[0]}"})
        run_md(made, place, "resume" if begun(place) else "new", progress=progress[0], stop=stop)
        if stop.reason is not None:
            return None
    found = read(place, load_system(run.system))
    found = found.take(found.time_ps > settings.discard_ps)
    if len(found) < labels.count:
        raise InputError(f"{place}: {len(found)} frames after {settings.discard_ps:g} ps, {labels.count} labels wanted")
    opinion = members.evaluate(found.positions)
    candidates = uncertain(found, opinion.force_spread, settings.uncertain_share, labels.count)
    box, processes = settings.box, settings.processes
    path = label(labels, candidates, target, box=box, processes=processes, progress=progress[1], stop=stop)
    return None if path is None or len(ForceFrames.load(path)) < labels.count else path


def retrain(
    names: Sequence[str],
    data: Sequence[Path],
    training: dict[str, Any],
    settings: RefineSettings,
    directory: Path,
    name: str,
    system: str,
) -> tuple[Member, ...]:
    """Train as many members as there were on all labels, export and verify them as ``name``-1, ``name``-2, ...

    Parameters
    ----------
    data : sequence of Path
        Earlier label files; those of ``directory`` are added.
    training : dict
        Training settings that differ from those that suit the number of labels.

    Raises
    ------
    InputError
        If some of the data have no covariance.
    ArtifactError
        If a new member fails its verification.
    """
    frames = concatenate([ForceFrames.load(p) for p in (*data, directory / "labels" / FRAMES)])
    members = []
    for number, old in enumerate(names, start=1):
        source = load_forcefield(forcefield_directory(old))
        members.append(_member(source, frames, training, settings, directory, f"{name}-{number}", number, system))
    return tuple(members)


def _member(
    source: ForceField,
    frames: ForceFrames,
    training: dict[str, Any],
    settings: RefineSettings,
    directory: Path,
    name: str,
    number: int,
    system: str,
) -> Member:
    place, target = directory / f"fit-{number}", directory / "forcefields" / name
    if (target / "card.yaml").is_file():
        return Member(verified(ForceFieldArtifact.read(target)), None)
    values = {**defaults(frames, settings.held_out), **training}
    chosen = TrainSettings.parse({**values, "seed": number}, "training")
    share = settings.held_out
    parts = by_block(frames, (1 - 2 * share, share, share), chosen.block_ps, number)
    card, molecule = source.artifact.card, load_system(system)
    under = baseline_for(card.baseline, molecule, parts.train, parts.valid)
    if place.is_dir() and not (place / checkpoint.NAME).is_file():
        shutil.rmtree(place)  # killed before its first epoch was over
    start = "resume" if place.is_dir() else "new"
    model = create(card.kind, source.artifact.config, number)
    result = fit(model, parts.train, parts.valid, chosen, place, "auto", under, start)  # type: ignore[arg-type]
    errors = _errors(result.model, parts.test, card.baseline, system, chosen)
    summary = FitRecord.read(place)
    row = errors.of("model").projected
    described = Training(
        data_digest=parts.train.digest,
        data=f"{len(parts.train)} frozen-solute labels of {molecule.name}",
        frames=len(parts.train),
        atom_types=tuple(sorted(set(molecule.atom_types))),
        settings_digest=summary.identity,
        seed=number,
        held_out=(
            Measured(
                quantity="mean-force error, noise removed",
                value=row.value,
                low=row.low,
                high=row.high,
                unit=errors.unit,
            ),
        ),
        notes=f"refined from {card.name}",
    )
    description = card.description.model_copy(update={"training": described})
    region = TrainedRegion.load(place / GUARD)
    return Member(verified(export(result.model, molecule, target, description, None, region)), errors)


def _errors(
    model: AbstractEnergyModel, test: ForceFrames, baseline: str, system: str, training: TrainSettings
) -> MeanForceErrors:
    forces = predict(model, test)
    if baseline != "none":
        forces = forces + born_forces(baseline, load_system(system), test.positions)
    return mean_force_errors(test, {"model": forces}, training.block_ps, training.seed)


def _complete(directory: Path) -> bool:
    return (directory / RUN_FILE).is_file() and RunRecord.read(directory).status == "complete"
