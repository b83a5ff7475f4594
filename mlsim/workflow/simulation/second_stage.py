"""Metadynamics and, in one call, the exact second stage: the same system under the bias that the first one finished.

Why: frames that were sampled while a bias grew reweight approximately, each with the bias of its own time. Under the
finished bias, which no longer changes, they reweight exactly by exp(V / kT), however well it was converged. So the
first stage is for finding the bias and the second for the numbers.

    DIR          metadynamics of ``ns``, as without a second stage
    DIR/fixed    ``then_fixed_ns`` under the finished bias; what ``mlsim fes DIR/fixed`` analyses

Several replicas each grow a bias of their own; the second stage of all of them is under the mean of these, kept in
``DIR/finished-bias.npz``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from mlsim import seeds
from mlsim.errors import SettingsError
from mlsim.files import write_npz
from mlsim.md.settings import RunSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.runs.bias_file import FILE, SavedBias
from mlsim.runs.restart import begun
from mlsim.workflow.simulation.run import Outcome, done_steps, replica_directory, run

#: Directory of the second stage inside that of the first.
FIXED = "fixed"
FINISHED = "finished-bias.npz"


def run_stages(
    settings: RunSettings,
    directory: str | Path,
    start: Literal["new", "resume"] = "new",
    *,
    processes: int = 1,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> tuple[Outcome, ...]:
    """Simulate what ``settings`` ask for: one stage, or metadynamics and then ``then_fixed_ns`` under its bias.

    Parameters
    ----------
    settings : RunSettings
        System, solvent, length (ns), temperature (K), bias, replicas, outputs.
    directory : str or Path
        Run directory: trajectory (nm, ps), log, checkpoint, ``run.json``, per replica.
    start : {"new", "resume"}
        ``resume`` continues from the checkpoint, bit for bit.
    processes : int
        Number of replicas at the same time.

    Returns
    -------
    tuple of Outcome
        Of the second stage if it was reached, else of the first.

    Raises
    ------
    SettingsError
        If a second stage is asked for and the bias does not grow.
    MlsimError
        Whatever :func:`mlsim.workflow.simulation.run.run` raises.
    """
    directory = Path(directory)
    if settings.then_fixed_ns is None:
        return run(settings, directory, start, processes=processes, progress=progress, stop=stop)
    if settings.bias != "metadynamics":
        raise SettingsError(
            f"then_fixed_ns: expected bias 'metadynamics', got '{settings.bias}'; a second stage needs a bias that grew"
        )
    stop = stop or StopRequest()
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": seeds.fresh_seed()})
    first = run(settings, directory, start, processes=processes, progress=progress, stop=stop)
    if stop.reason is not None or len(first) < settings.replicas or any(o.status != "complete" for o in first):
        return first
    second = second_settings(settings, directory)
    place = directory / FIXED
    then: Literal["new", "resume"] = "resume" if begun(place) else "new"
    return run(second, place, then, processes=processes, progress=progress, stop=stop)


def second_settings(settings: RunSettings, directory: Path) -> RunSettings:
    """Settings of the second stage of a finished first one."""
    assert settings.seed is not None
    changes = {
        "bias": str(finished_bias(directory, settings.replicas)),
        "ns": settings.then_fixed_ns,
        "then_fixed_ns": None,
        "seed": seeds.derive(settings.seed, "second stage"),
    }
    return settings.model_copy(update=changes)


def finished_bias(directory: Path, replicas: int) -> Path:
    """File with the bias of a finished first stage; of several replicas, the mean of theirs."""
    if replicas == 1:
        return (directory / FILE).resolve()
    found = [SavedBias.load(replica_directory(directory, k) / FILE) for k in range(replicas)]
    path = (directory / FINISHED).resolve()
    mean = np.mean([saved.grid for saved in found], axis=0)
    write_npz(path, replace(found[0], grid=mean, grown=False, history=None).arrays(np.nan))
    return path


def steps_of(settings: RunSettings) -> int:
    """Integration steps of one replica in all stages."""
    if settings.then_fixed_ns is None:
        return settings.total_steps
    return settings.total_steps + settings.model_copy(update={"ns": settings.then_fixed_ns}).total_steps


def steps_done(directory: Path, settings: RunSettings) -> int:
    """Steps that earlier calls did in all stages and replicas."""
    done = done_steps(directory, settings)
    return done + (done_steps(directory / FIXED, settings) if settings.then_fixed_ns is not None else 0)
