"""Run by name: from settings to trajectories, one or several replicas, new or resumed.

Replica k of root seed s has its own seed derived from (s, "replica k"), so its path does not depend on how many
replicas run beside it, on how many processes, or in which order.

A run has one potential. Processes and later calls find it again by name, and a force field of that name may have been
replaced in between; so the potential is recorded when the run begins and compared whenever it is found again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mlsim import seeds
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.errors import CheckpointError, InputError, MlsimError
from mlsim.files import write_text
from mlsim.locks import Held, claim
from mlsim.md.engines.shared import faster_context, require_copies, simulate_together
from mlsim.md.engines.single import simulate
from mlsim.md.session import FREE, Outcome
from mlsim.md.settings import RunSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.md.watch import Watch
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.records import RUN_FILE, Failure, RunRecord, SoluteNote, command_line, versions
from mlsim.runs.restart import CONFIG, CURRENT, PREVIOUS, RUN, begun, saved_settings, steps_done
from mlsim.starts import Start, require_start, take
from mlsim.workflow.fan_out import fan_out
from mlsim.workflow.simulation.biases_by_name import bias_for
from mlsim.workflow.simulation.guard import guards_for


@dataclass(frozen=True)
class ReplicaTask:
    """One replica's work, picklable: a process of its own builds molecule and potential again."""

    settings: RunSettings
    directory: Path
    index: int
    start: Literal["new", "resume"]
    potential: dict[str, Any]

    def __call__(self, progress: Progress | None, stop: StopRequest) -> Outcome:
        """Simulate it in this process."""
        molecule, potential = ingredients(self.settings)
        require_same(potential, self.potential, self.directory)
        return self.simulate(molecule, potential, progress, stop)

    def simulate(
        self, molecule: Molecule, potential: Potential, progress: Progress | None, stop: StopRequest
    ) -> Outcome:
        """Simulate it with molecule and potential at hand."""
        assert self.settings.seed is not None
        several = self.settings.replicas > 1
        seed = seeds.derive(self.settings.seed, f"replica {self.index}")
        place = replica_directory(self.directory, self.index) if several else self.directory
        start: Start = self.start
        if several:
            start = "resume" if start == "resume" and begun(place) else "new"
        bias = bias_for(molecule, self.settings)
        guards = guards_for(self.settings, potential, molecule, stop)
        return simulate(molecule, potential, self.settings, place, seed, start, bias, Watch(guards, progress, stop))


def chosen_context(
    settings: RunSettings, molecule: Molecule, potential: Potential, directory: Path
) -> Literal["separate", "shared"]:
    """Whether the replicas share a Context: as begun, as asked for, or for ``auto`` if a GPU does it faster so.

    Raises
    ------
    InputError
        If they are to share one and cannot, or a run was begun the other way.
    """
    if settings.replicas == 1:
        return "separate"
    before: Literal["separate", "shared"] | None = None
    if any((directory / name).exists() for name in (CURRENT, PREVIOUS)):
        before = "shared"
    elif any(directory.glob(f"replica-*/{CURRENT}")):
        before = "separate"
    if settings.context == "auto":
        return before or faster_context(settings, molecule, potential)
    if before not in (None, settings.context):
        raise InputError(f"{directory}: begun with context '{before}'; resume it without --context")
    if settings.context == "shared":
        require_copies(settings, molecule, potential)
    return settings.context


def _together(
    settings: RunSettings,
    directory: Path,
    start: Start,
    molecule: Molecule,
    potential: Potential,
    progress: Progress | None,
    stop: StopRequest,
) -> tuple[Outcome, ...]:
    """All replicas in one Context, new or from its checkpoint."""
    assert settings.seed is not None
    seed, count = settings.seed, settings.replicas
    parts = [(replica_directory(directory, k), seeds.derive(seed, f"replica {k}")) for k in range(count)]
    return simulate_together(molecule, potential, settings, directory, parts, start, progress=progress, stop=stop)


def ingredients(settings: RunSettings) -> tuple[Molecule, Potential]:
    """The molecule and the potential that the settings name."""
    molecule = load_system(settings.system)
    return molecule, resolve(settings.solvent, PotentialRequest(molecule, settings.bridge))


def require_same(potential: Potential, recorded: dict[str, Any], directory: Path) -> None:
    """Refuse to go on with another version of a force field than a run was begun with.

    Parameters
    ----------
    recorded : dict
        What the run recorded of its potential (``Potential.describe``).

    Raises
    ------
    CheckpointError
        If a term of the same name has another digest.
    """
    expected, found = _digests(recorded), _digests(potential.describe())
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            raise CheckpointError(
                f"{directory}: begun with version {expected[name]} of {name}, found {found[name]}: the force field was "
                "replaced in the meantime; put the old one back, or start a new run in another directory"
            )


def _digests(described: dict[str, Any]) -> dict[str, str]:
    """Digest of every term of a potential by its name (empty for terms without files)."""
    return {str(term["name"]): str(term.get("digest", "")) for term in described.get("terms", [described])}


def _continued(settings: RunSettings, molecule: Molecule, potential: Potential, directory: Path) -> RunSettings:
    """Settings to resume a run with: those given, with the system as it was named when the run was begun.

    Refuses other settings, another molecule or force field before anything is written.

    Raises
    ------
    CheckpointError
        With what differs.
    """
    first = next(place for place in (directory, *_replicas(directory, settings)) if (place / RUN_FILE).exists())
    record, saved = RunRecord.read(first), saved_settings(RunSettings, directory)
    if (settings.replicas == 1) != (saved.replicas == 1):
        raise CheckpointError(
            f"{directory}: begun with {saved.replicas} replica{'s' * (saved.replicas > 1)}, which cannot become "
            f"{settings.replicas}; choose another -o for more runs"
        )
    new, old = (each.model_dump(mode="json") for each in (settings, saved))
    changed = [
        f"{key} {old[key]!r} (now {new[key]!r})" for key in new if key not in {*FREE, "system"} and new[key] != old[key]
    ]
    if changed:
        raise CheckpointError(
            f"{directory}: begun with {', '.join(changed)}; resume it with the settings in its {CONFIG}, or choose "
            "another -o"
        )
    if record.molecule is not None and record.molecule.digest != molecule.digest:
        raise CheckpointError(
            f"{directory}: begun with another molecule than {molecule.name} is now; put the old file back, or choose "
            "another -o"
        )
    require_same(potential, dict(record.potential), directory)
    return settings.model_copy(update={"system": saved.system})


def _farthest(directory: Path, settings: RunSettings) -> int:
    """Steps of the replica that came farthest."""
    return max(steps_done([place]) for place in _replicas(directory, settings))


def _replicas(directory: Path, settings: RunSettings) -> list[Path]:
    return [replica_directory(directory, k) for k in range(settings.replicas)] if settings.replicas > 1 else []


def replica_directory(directory: Path, index: int) -> Path:
    """Where replica ``index`` of a many-replica run lives."""
    return directory / f"replica-{index:02d}"


def run(
    settings: RunSettings,
    directory: Path,
    start: Literal["new", "resume"] = "new",
    *,
    processes: int = 1,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> tuple[Outcome, ...]:
    """Simulate all replicas of ``settings`` in ``directory``.

    Parameters
    ----------
    processes : int
        Replicas worked on at the same time.

    Raises
    ------
    OccupiedError
        ``new`` in a directory that already holds a run or other files.
    MlsimError
        Whatever :func:`mlsim.md.engines.single.simulate` raises.
    """
    stop = stop or StopRequest()
    if processes < 1:
        raise InputError(f"processes: expected at least 1, got {processes}")
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": seeds.fresh_seed()})
    # fail before anything is written: unknown system, solvent, or an artifact that does not fit
    molecule, potential = ingredients(settings)
    guards_for(settings, potential, molecule, stop)
    bias_for(molecule, settings)
    if require_start(directory, RUN, start) == "resume":
        settings = _continued(settings, molecule, potential, directory)
    settings = settings.model_copy(update={"context": chosen_context(settings, molecule, potential, directory)})
    if settings.replicas > 1 and settings.context == "shared":
        return _together(settings, directory, start, molecule, potential, progress, stop)
    if settings.replicas == 1:
        return (ReplicaTask(settings, directory, 0, start, {}).simulate(molecule, potential, progress, stop),)
    with claim(directory) as held:
        start, described = take(directory, RUN, start), potential.describe()
        tasks = tuple(ReplicaTask(settings, directory, k, start, described) for k in range(settings.replicas))
        return _apart(tasks, molecule, potential, held, min(processes, settings.replicas), progress, stop)


def _apart(
    tasks: tuple[ReplicaTask, ...],
    molecule: Molecule,
    potential: Potential,
    held: Held,
    workers: int,
    progress: Progress | None,
    stop: StopRequest,
) -> tuple[Outcome, ...]:
    """Every replica in a Context of its own, and the record of the whole."""
    settings, directory = tasks[0].settings, tasks[0].directory
    n = molecule.n_atoms
    whole = RunRecord(
        engine="replicas",
        status="running",
        copies=settings.replicas,
        seed=0 if settings.seed is None else settings.seed,
        settings=settings.model_dump(mode="json"),
        molecule=SoluteNote(name=molecule.name, digest=molecule.digest, solute_atoms=n, atoms=n),
        potential=tasks[0].potential,
        versions=versions(),
        command=command_line(),
    )
    write_text(directory / CONFIG, settings.to_yaml())
    whole.write(directory)
    try:
        if workers > 1:
            outcomes = fan_out(tasks, workers, progress, stop)
        else:
            outcomes = fan_out([partial(t.simulate, molecule, potential) for t in tasks], 1, progress, stop)
    except MlsimError as error:
        if held.is_there():
            failure = Failure(message=str(error), step=_farthest(directory, settings))
            whole.model_copy(update={"status": "failed", "failure": failure}).write(directory)
        raise
    held.require_there()
    complete = all(o.status == "complete" for o in outcomes) and len(outcomes) == settings.replicas
    whole.model_copy(update={"status": "complete" if complete else "stopped", "reason": stop.reason}).write(directory)
    return outcomes


def done_steps(directory: Path, settings: RunSettings) -> int:
    """Steps that earlier calls already did, summed over replicas (for progress bars)."""
    if settings.context == "shared" and settings.replicas > 1:
        return steps_done([directory]) * settings.replicas
    several = [replica_directory(directory, k) for k in range(settings.replicas)]
    return steps_done([directory] if settings.replicas == 1 else several)
