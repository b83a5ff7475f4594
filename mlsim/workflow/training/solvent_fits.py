"""Fit the solvent of one molecule to its force frames, and correct its populations.

frames.h5 -> split by blocks of time -> fit -> weights, result.json, molecule.pdb
                                     -> errors on the test frames: test.json, mean_force.json (labels with errors)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.dataset.split import by_block
from mlsim.files import write_json
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent import population_matching
from mlsim.fitting.solvent.engine import use_threads
from mlsim.fitting.solvent.force_error import ForceErrors, predict
from mlsim.fitting.solvent.force_matching import FitResult, held_out_errors
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors, mean_force_errors
from mlsim.fitting.solvent.mean_force_matching import defaults, fit
from mlsim.models.contract import create
from mlsim.models.weights import load
from mlsim.records import FitRecord
from mlsim.runs.trajectory import Run
from mlsim.workflow.training.baseline import baseline_for, born_forces, keep_molecule, molecule_of
from mlsim.workflow.training.fit_settings import IssnetSettings, PopulationsSettings
from mlsim.workflow.training.populations import (
    explicit_ensemble,
    first_split,
    generated_ensembles,
    require_temperature,
)

__all__ = ["TEST", "MeanForceErrors", "SolventFit", "train_issnet", "train_populations"]

TEST, MEAN_FORCE = "test.json", "mean_force.json"


@dataclass(frozen=True, eq=False)
class SolventFit:
    """A finished fit, and its errors on frames that it has not seen.

    Attributes
    ----------
    result : FitResult
        The model, its directory, and how the loop ended.
    errors : ForceErrors
        Force errors on the test frames, kJ/mol/nm, with intervals.
    mean_force : MeanForceErrors or None
        The same with the noise of the labels removed, if they carry error bars.
    pair_loss : float or None
        Of populations: held-out loss of telling the ensembles apart, nats (ln 2: they are alike).
    """

    result: FitResult
    errors: ForceErrors
    mean_force: MeanForceErrors | None = None
    pair_loss: float | None = None


def train_issnet(
    data: Sequence[Path],
    directory: Path,
    settings: IssnetSettings,
    start: Literal["new", "resume"] = "new",
    progress: Literal["auto", "off"] = "auto",
) -> SolventFit:
    """Fit an ISSNet to force frames of one molecule.

    Parameters
    ----------
    data : sequence of Path
        Force frames (HDF5); several are joined. Labels with error bars are weighted by their covariance.
    directory : Path
        Training directory of the result.
    settings : IssnetSettings
    start : {"new", "resume"}

    Returns
    -------
    SolventFit

    Raises
    ------
    MissingError, InputError
        No such frames, frames of several molecules or conditions, or a baseline whose molecule is not known.
    OccupiedError, CheckpointError, UnphysicalError
        As every fit.
    """
    frames = concatenate([ForceFrames.load(path) for path in data])
    training = TrainSettings.parse(defaults(frames, settings.held_out) | settings.training(), "command line")
    model = create("issnet", settings.model(), settings.seed)
    share = settings.held_out
    parts = by_block(frames, (1 - 2 * share, share, share), settings.block_ps, settings.seed, settings.gap_ps)
    if settings.threads is not None:
        use_threads(settings.threads)
    under, system = settings.baseline, settings.system
    beneath = None
    if under != "none":
        beneath = baseline_for(under, molecule_of(frames, system), parts.train, parts.valid)
    result = fit(model, parts.train, parts.valid, training, directory, progress, beneath, start)
    if system is not None:
        keep_molecule(molecule_of(frames, system), directory)
    return _tested(result, parts.test, under, training, system)


def train_populations(
    data: Sequence[Path],
    directory: Path,
    settings: PopulationsSettings,
    start: Literal["new", "resume"] = "new",
    progress: Literal["auto", "off"] = "auto",
) -> SolventFit:
    """Correct the basin populations of a fitted model against an explicit ensemble.

    Parameters
    ----------
    data : sequence of Path
        The frames that ``settings.fit`` was fitted to, all of them and in the same order; they are split as they were.
    directory : Path
        Training directory of the result.
    settings : PopulationsSettings
    start : {"new", "resume"}

    Returns
    -------
    SolventFit
        With ``pair_loss``.

    Raises
    ------
    MissingError, InputError
        No finished first stage, other frames than its, or a run at another temperature.
    OccupiedError, CheckpointError, UnphysicalError
        As every fit.
    """
    first = FitRecord.read(settings.fit)
    frames = concatenate([ForceFrames.load(path) for path in data])
    parts = first_split(first, frames, str(settings.fit))
    training = TrainSettings.parse(settings.training() | {"block_ps": parts.note.block_ps}, "command line")
    extra = population_matching.PopulationSettings(weight=settings.weight, pairs=settings.pairs)
    made = Run.open(settings.run)
    require_temperature(first, made)
    if settings.threads is not None:
        use_threads(settings.threads)
    model, molecule = load(settings.fit), molecule_of(frames, settings.system)
    under = getattr(model.config, "baseline", "none")
    discard = settings.discard_ps
    beneath = baseline_for(under, molecule, parts.train, parts.valid)
    ensembles = population_matching.Ensembles(
        (explicit_ensemble(parts.train, made, discard), explicit_ensemble(parts.valid, made, discard)),
        generated_ensembles(made, molecule, settings.discard_run_ps, parts.note.fractions[1]),
        made.temperature_K,
    )
    stage = population_matching.FirstStage(parts.train, parts.valid, beneath, first.identity)
    result, pair_loss = population_matching.fit(model, stage, ensembles, training, extra, directory, progress, start)
    keep_molecule(molecule, directory)
    return _tested(result, parts.test, under, training, settings.system, pair_loss)


def _tested(
    result: FitResult,
    test: ForceFrames,
    baseline: str,
    settings: TrainSettings,
    system: str | None,
    pair_loss: float | None = None,
) -> SolventFit:
    """The fit with its errors on the test frames, which are written beside it."""
    forces = None if baseline == "none" else born_forces(baseline, molecule_of(test, system), test.positions)
    errors = held_out_errors(result.model, test, settings, baseline, forces)
    write_json(result.directory / TEST, errors.as_dict())
    if test.covariance is None:
        return SolventFit(result, errors, None, pair_loss)
    alone = predict(result.model, test)
    predicted: dict[str, Any] = {} if forces is None else {baseline: forces}
    predicted["model"] = alone if forces is None else alone + forces
    mean_force = mean_force_errors(test, predicted, settings.block_ps, settings.seed)
    write_json(result.directory / MEAN_FORCE, mean_force.as_dict())
    return SolventFit(result, errors, mean_force, pair_loss)
