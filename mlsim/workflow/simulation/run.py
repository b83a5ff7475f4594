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
from mlsim.errors import CheckpointError, InputError, OccupiedError
from mlsim.files import PARTIAL, make_directory, write_text
from mlsim.md.engines.shared import faster_context, require_copies, simulate_together
from mlsim.md.engines.single import simulate
from mlsim.md.prepare import bias_for
from mlsim.md.session import Outcome
from mlsim.md.settings import RunSettings
from mlsim.md.signals import Progress, StopRequest
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.records import RUN_FILE, RunRecord, SoluteNote, command_line, versions
from mlsim.runs.restart import CURRENT, PREVIOUS, steps_done
from mlsim.workflow.fan_out import fan_out
from mlsim.workflow.simulation.guard import guards_for

#: What a run that was killed before its first step leaves behind; a new run takes it over.
_PREPARED = {".lock", "start.npz", "start.pdb"}


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
        start = self.start if (place / RUN_FILE).exists() else "new"
        bias = bias_for(molecule, self.settings)
        guards = guards_for(self.settings, potential, molecule, stop)
        return simulate(
            molecule, potential, self.settings, place, seed, start, bias, guards, progress=progress, stop=stop
        )


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
    begun: Literal["separate", "shared"] | None = None
    if any((directory / name).exists() for name in (CURRENT, PREVIOUS)):
        begun = "shared"
    elif any(directory.glob(f"replica-*/{CURRENT}")):
        begun = "separate"
    if settings.context == "auto":
        return begun or faster_context(settings, molecule, potential)
    if begun not in (None, settings.context):
        raise InputError(f"{directory}: begun with context '{begun}'; resume it without --context")
    if settings.context == "shared":
        require_copies(settings, molecule, potential)
    return settings.context


def _together(
    settings: RunSettings,
    directory: Path,
    molecule: Molecule,
    potential: Potential,
    progress: Progress | None,
    stop: StopRequest,
) -> tuple[Outcome, ...]:
    """All replicas in one Context, new or from its checkpoint."""
    assert settings.seed is not None
    seed, count = settings.seed, settings.replicas
    parts = [(replica_directory(directory, k), seeds.derive(seed, f"replica {k}")) for k in range(count)]
    begun = (directory / CURRENT).exists() or (directory / PREVIOUS).exists()
    start: Literal["new", "resume"] = "resume" if begun else "new"
    return simulate_together(molecule, potential, settings, directory, parts, start, progress=progress, stop=stop)


def ingredients(settings: RunSettings) -> tuple[Molecule, Potential]:
    """The molecule and the potential that the settings name."""
    molecule = load_system(settings.system)
    return molecule, resolve(settings.solvent, PotentialRequest(molecule, settings.bridge))


def require_same(potential: Potential, begun: dict[str, Any], directory: Path) -> None:
    """Refuse to go on with another version of a force field than a run was begun with.

    Parameters
    ----------
    begun : dict
        What the run recorded of its potential (``Potential.describe``).

    Raises
    ------
    CheckpointError
        If a term of the same name has another digest.
    """
    expected, found = _digests(begun), _digests(potential.describe())
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            raise CheckpointError(
                f"{directory}: begun with version {expected[name]} of {name}, found {found[name]}: the force field was "
                "replaced in the meantime; put the old one back, or start a new run in another directory"
            )


def _digests(described: dict[str, Any]) -> dict[str, str]:
    """Digest of every term of a potential by its name (empty for terms without files)."""
    return {str(term["name"]): str(term.get("digest", "")) for term in described.get("terms", [described])}


def _recorded_potential(settings: RunSettings, directory: Path) -> dict[str, Any] | None:
    """What the run in ``directory`` recorded of its potential, or None if no replica has begun."""
    several = settings.replicas > 1
    places = [replica_directory(directory, k) for k in range(settings.replicas)] if several else [directory]
    for place in (directory, *places):
        if (place / RUN_FILE).exists():
            return dict(RunRecord.read(place).potential)
    return None


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
    if start == "new":
        if (directory / RUN_FILE).exists():
            raise OccupiedError(f"{directory}: already holds a run; continue it with --resume or choose another -o")
        kept = [p.name for p in directory.iterdir()] if directory.exists() else []
        if any(name not in _PREPARED and not name.startswith(PARTIAL) for name in kept):
            raise OccupiedError(f"{directory}: not empty and not a run; choose another -o")
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": seeds.fresh_seed()})
    # fail before anything is written: unknown system, solvent, or an artifact that does not fit
    molecule, potential = ingredients(settings)
    guards_for(settings, potential, molecule, stop)
    bias_for(molecule, settings)
    begun = _recorded_potential(settings, directory) if start == "resume" else None
    if begun is not None:
        require_same(potential, begun, directory)
    settings = settings.model_copy(update={"context": chosen_context(settings, molecule, potential, directory)})
    described = potential.describe()
    tasks = tuple(ReplicaTask(settings, directory, k, start, described) for k in range(settings.replicas))
    if settings.replicas == 1:
        return (tasks[0].simulate(molecule, potential, progress, stop),)
    make_directory(directory)
    n = molecule.n_atoms
    whole = RunRecord(
        engine="replicas",
        status="running",
        copies=settings.replicas,
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        molecule=SoluteNote(name=molecule.name, digest=molecule.digest, solute_atoms=n, atoms=n),
        potential=described,
        versions=versions(),
        command=command_line(),
    )
    write_text(directory / "config.yaml", settings.to_yaml())
    whole.write(directory)
    workers = min(processes, settings.replicas)
    if settings.context == "shared":
        outcomes = _together(settings, directory, molecule, potential, progress, stop)
    elif workers > 1:
        outcomes = fan_out(tasks, workers, progress, stop)
    else:
        outcomes = fan_out([partial(t.simulate, molecule, potential) for t in tasks], 1, progress, stop)
    complete = all(o.status == "complete" for o in outcomes) and len(outcomes) == settings.replicas
    whole.model_copy(update={"status": "complete" if complete else "stopped", "reason": stop.reason}).write(directory)
    return outcomes


def done_steps(directory: Path, settings: RunSettings) -> int:
    """Steps that earlier calls already did, summed over replicas (for progress bars)."""
    if settings.context == "shared" and settings.replicas > 1:
        return steps_done([directory]) * settings.replicas
    several = [replica_directory(directory, k) for k in range(settings.replicas)]
    return steps_done([directory] if settings.replicas == 1 else several)
