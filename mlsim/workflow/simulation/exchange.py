"""Replica exchange by name: from settings to one trajectory per temperature, new or resumed, in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from mlsim import seeds
from mlsim.chem.catalog import load_system
from mlsim.errors import InputError
from mlsim.md.engines.ladder import temperature_ladder
from mlsim.md.engines.replica_exchange import ExchangeOutcome, LocalMover, Moved, Mover, Segment, exchange
from mlsim.md.integrator import impulses_for, slow_group
from mlsim.md.platforms import PlatformChoice
from mlsim.md.settings import ExchangeSettings
from mlsim.md.signals import STOP_SIGNALS, Progress, StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from mlsim.runs.restart import RUN, steps_done
from mlsim.starts import require_start
from mlsim.workflow.fan_out import end_with_parent, killed

__all__ = ["ExchangeOutcome", "done_steps", "run_exchange", "temperature_ladder"]

_mover: LocalMover | None = None


def run_exchange(
    settings: ExchangeSettings,
    directory: Path,
    start: Literal["new", "resume"] = "new",
    *,
    processes: int = 1,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> ExchangeOutcome:
    """Replica exchange of ``settings`` in ``directory``.

    Parameters
    ----------
    processes : int
        Temperatures worked on at the same time; the trajectories do not depend on it.

    Raises
    ------
    OccupiedError
        ``new`` in a directory that already holds a run or other files.
    MlsimError
        Whatever :func:`mlsim.md.engines.replica_exchange.exchange` raises.
    """
    require_start(directory, RUN, start)
    if processes < 1:
        raise InputError(f"processes: expected at least 1, got {processes}")
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": seeds.fresh_seed()})
    assert settings.seed is not None
    molecule = load_system(settings.system)
    potential = resolve(settings.solvent, PotentialRequest(molecule, settings.bridge))
    workers = min(processes, len(settings.temperatures_K))
    with ExitStack() as stack:

        def spread(local: LocalMover) -> Mover:
            if workers <= 1:
                return local
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, _initialise, (settings, local.platform))
            return _Pool(stack.enter_context(pool))

        watch = Watch((), progress, stop or StopRequest())
        return exchange(molecule, potential, settings, directory, settings.seed, start, spread=spread, watch=watch)


class _Pool:
    """Moves states in worker processes."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def __call__(self, segments: Sequence[Segment]) -> list[Moved]:
        try:
            return list(self._pool.map(_move, segments))
        except BrokenProcessPool:
            for worker in multiprocessing.active_children():  # they do not listen to the pool, and have nothing to lose
                worker.kill()
            raise killed() from None


def _initialise(settings: ExchangeSettings, platform: PlatformChoice) -> None:
    global _mover
    for number in STOP_SIGNALS:  # the parent stops at the end of a segment
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(lambda: True)
    molecule = load_system(settings.system)
    potential = resolve(settings.solvent, PotentialRequest(molecule, settings.bridge))
    impulses = impulses_for(settings, potential)
    molecule, bonds, mass = potential.prepare(molecule), settings.constraints, settings.hydrogen_mass_Da
    system = build_system(molecule, potential, bonds, mass, slow_group(settings), impulses)
    _mover = LocalMover(system, settings, platform, impulses)


def _move(segment: Segment) -> Moved:
    assert _mover is not None
    return _mover.move(segment)


def done_steps(directory: Path, settings: ExchangeSettings) -> int:
    """Steps that earlier calls already did, summed over temperatures."""
    return steps_done([directory]) * len(settings.temperatures_K)
