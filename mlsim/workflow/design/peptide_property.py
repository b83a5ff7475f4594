"""A property of a peptide from its sequence: build it, simulate it, average an observable.

    "AEKLG"  ->  ACE-ALA-GLU-LYS-LEU-GLY-NME  ->  MD without explicit water  ->  mean of the property

    rg            radius of gyration, nm
    end-to-end    distance of the first and the last CA atom, nm
    helicity      share of inner residues with (phi, psi) within 45 degrees of (-63, -42)

Why: a search over sequences needs a number per sequence that nobody knows beforehand and that costs something. Here
it comes from the same verbs as every other run, with all that guards them.

A value depends on the sequence and the settings only: the seed of a run is derived from both. Values are kept, one line
of JSON each, so that a search that was killed pays for nothing twice; the trajectories are deleted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mlsim import limits, seeds
from mlsim.analysis import observables
from mlsim.chem.sequence import ONE_TO_THREE
from mlsim.errors import InputError, MlsimError, UnphysicalError
from mlsim.files import open_own, storage, write_text
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.runs.trajectory import Run
from mlsim.units import PS_PER_NS
from mlsim.workflow.design.design_settings import PropertySettings
from mlsim.workflow.simulation.run import run

CACHE = "properties.jsonl"
_HELIX_DEG = (-63.0, -42.0)
_HELIX_WIDTH_DEG = 45.0


class SimulatedProperty:
    """The property as a function of sequences: ``values = simulated(["AEKLG", ...])``.

    Parameters
    ----------
    settings : PropertySettings
    directory : Path
        Where values are kept and runs live while they run.
    stop : StopRequest, optional
        Asked between sequences and inside the runs.
    progress : callable, optional
        ``progress(sequence, value)`` after every new value.

    Raises
    ------
    InputError
        If the directory holds values of other settings, or a line of it is damaged.
    """

    def __init__(
        self,
        settings: PropertySettings,
        directory: Path,
        stop: StopRequest | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        self.settings, self.directory = settings, directory
        self.stop, self.progress = stop or StopRequest(), progress
        self.known = _read(directory / CACHE, settings.digest())

    def __call__(self, sequences: Sequence[str]) -> list[float]:
        """Values of ``sequences`` of one-letter codes; what is not known is simulated.

        Raises
        ------
        InputError
            If a sequence has unknown letters or cannot be built.
        InterruptedSearch
            If a stop was requested; everything finished before is kept.
        """
        for sequence in sequences:
            if sequence not in self.known:
                value = self._simulate(sequence)
                self.known[sequence] = value
                self._keep(sequence, value)
                if self.progress is not None:
                    self.progress(sequence, value)
        return [self.known[s] for s in sequences]

    def _simulate(self, sequence: str) -> float:
        text = capped(sequence)
        settings = self.settings
        running = self.directory / "running" / sequence
        shutil.rmtree(running, ignore_errors=True)  # a killed run leaves a part; it is short and starts again
        plan = RunSettings(
            system=text,
            solvent=settings.solvent,
            ns=settings.ps / PS_PER_NS,
            temperature_K=settings.temperature_K,
            report_ps=settings.report_ps,
            platform=settings.platform,
            threads=1,
            seed=seeds.derive(settings.seed, f"property {sequence}"),
        )
        (outcome,) = run(plan, running, stop=self.stop)
        if outcome.status != "complete":
            raise InterruptedSearch(f"stopped ({self.stop.reason}) while simulating {text}")
        made = Run.open(running)
        positions = made.replicas[0].positions()
        kept = positions[int(settings.discard * len(positions)) :]
        value = float(np.mean(per_frame(settings.property, kept, made.topology)))
        shutil.rmtree(running)
        if not np.isfinite(value):
            raise UnphysicalError(f"{settings.property} of {text} is {value}")
        return value

    def _keep(self, sequence: str, value: float) -> None:
        path = self.directory / CACHE
        line = {"sequence": sequence, "value": value, "settings": self.settings.digest()}
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_own(path, "ab") as handle:
                handle.write((json.dumps(line) + "\n").encode())


class InterruptedSearch(MlsimError):
    """A stop was requested in the middle of a simulation."""

    exit_code = 130


def capped(sequence: str) -> str:
    """``"AEK"`` as ``"ACE-ALA-GLU-LYS-NME"``."""
    unknown = sorted(set(sequence) - set(ONE_TO_THREE))
    if unknown or not sequence:
        raise InputError(
            f"sequence '{sequence}': expected one-letter codes {''.join(ONE_TO_THREE)}, got {''.join(unknown)!r}"
        )
    return "-".join(["ACE", *(ONE_TO_THREE[letter] for letter in sequence), "NME"])


def per_frame(name: str, positions: np.ndarray, topology: object) -> np.ndarray:
    """The property of every frame [F] of ``positions`` [F, N, 3] (nm)."""
    if name != "helicity":
        return observables.evaluate(positions, topology, [name])[:, 0]  # type: ignore[arg-type]
    residues = [r.resSeq for r in topology.residues if r.name not in ("ACE", "NME")]  # type: ignore[attr-defined]
    specs = [f"{angle}:{number}" for number in residues for angle in ("phi", "psi")]
    angles = observables.evaluate(positions, topology, specs)  # type: ignore[arg-type]
    away = np.degrees(angles.reshape(len(positions), -1, 2)) - np.array(_HELIX_DEG)
    away = (away + 180.0) % 360.0 - 180.0
    return np.asarray((np.abs(away) < _HELIX_WIDTH_DEG).all(axis=2).mean(axis=1))


def _read(path: Path, digest: str) -> dict[str, float]:
    """Values of ``path``; the last line may be half written and is dropped then."""
    if not path.is_file():
        return {}
    known: dict[str, float] = {}
    try:
        lines = limits.text(path).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            sequence, value, owner = str(row["sequence"]), float(row["value"]), str(row["settings"])
        except (KeyError, TypeError, ValueError, RecursionError):
            if number == len(lines):
                write_text(path, "".join(text + "\n" for text in lines[:-1]))
                break
            raise InputError(f"{path}: line {number} is damaged; delete it") from None
        if owner != digest:
            raise InputError(f"{path}: holds values of other settings; choose another directory")
        known[sequence] = value
    return known
