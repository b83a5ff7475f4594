"""Making and packing a set of explicit-water force data (:mod:`mlsim.workflow.force_data.peptide_set`).

:func:`make` runs what is not done, segment by segment, and can be killed at any moment; :func:`pack` writes one file of
packed frames per finished segment, also while others run. A segment that cannot be made
(GROMACS gives up, no sound start) is noted in its directory and left out; the others go on.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlsim.chem.conformers import conformer
from mlsim.chem.templates import PROTEIN_FORCE_FIELD
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.packed import pack as write_packed
from mlsim.errors import MlsimError, OccupiedError
from mlsim.files import make_directory, write_text
from mlsim.locks import claim
from mlsim.md.gromacs.water_run import FOLDER
from mlsim.md.observers.forces import collect
from mlsim.md.signals import StopRequest
from mlsim.records import RunRecord
from mlsim.workflow.force_data.peptide_set import FAILED, Manifest, Segment, bias_for_kinds, segments
from mlsim.workflow.force_data.reference import run_seed

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Tally:
    """How much of a set there is: segments by state, and nanoseconds."""

    counts: Counter[str]
    done_ns: float
    total_ns: float

    def __str__(self) -> str:
        states = ", ".join(f"{self.counts[s]} {s}" for s in ("done", "begun", "waiting", "failed") if self.counts[s])
        return f"{self.done_ns:.2f} of {self.total_ns:.2f} ns; segments: {states or 'none'}"


def tally(manifest: Manifest, directory: Path) -> Tally:
    """Count the segments of a set by state."""
    counts = Counter(segment.state for segment in segments(manifest, directory))
    return Tally(counts, counts["done"] * manifest.segment_ns, manifest.total_ns)


def make(
    manifest: Manifest,
    beside: Path,
    directory: Path,
    threads: int = 1,
    stop: StopRequest | None = None,
    say: Callable[[str], None] = print,
    packed: Path | None = None,
) -> Tally:
    """Run every segment that is not done.

    Parameters
    ----------
    manifest : Manifest
    beside : Path
        Directory of the manifest, where its bias surfaces are.
    directory : Path
        Where the runs are kept; continued if it exists.
    threads : int
        Of GROMACS.
    stop : StopRequest, optional
        Ends after a checkpoint of the segment that runs.
    say : callable
        Receives one line per segment.
    packed : Path, optional
        Directory of packed files; segments that it holds are not made again, so that a set goes on elsewhere.

    Raises
    ------
    OccupiedError
        If another process makes this set.
    """
    stop = stop or StopRequest()
    with claim(directory):
        waiting = [
            segment
            for segment in segments(manifest, directory)
            if segment.state in ("waiting", "begun") and not (packed and packed_file(packed, segment).exists())
        ]
        began, made = time.monotonic(), 0
        for segment in waiting:
            if stop.reason is not None:
                break
            clock = time.monotonic()
            if not _run(manifest, beside, segment, threads, stop, say):
                continue
            made += 1
            now = time.monotonic()
            left = (now - began) / made * (len(waiting) - made) / _SECONDS_PER_HOUR
            say(
                f"{segment.entry.sequence} start {segment.number}: {manifest.segment_ns:g} ns in {now - clock:.0f} s; "
                f"{len(waiting) - made} segments, about {left:.1f} h left"
            )
    return tally(manifest, directory)


def _run(
    manifest: Manifest,
    beside: Path,
    segment: Segment,
    threads: int,
    stop: StopRequest,
    say: Callable[[str], None],
) -> bool:
    """Make one segment; whether it is done."""
    try:
        molecule = conformer(segment.entry.sequence, segment.number)
        bias = segment.home / "bias.npz"
        make_directory(segment.home)
        if not bias.exists():
            bias_for_kinds(molecule, beside / manifest.biases, manifest.temperature_K).save(bias)
        outcome = run_seed(
            molecule, manifest.settings(segment.entry, bias, threads), segment.home, segment.seed, stop=stop
        )
    except OccupiedError:
        raise
    except MlsimError as error:
        make_directory(segment.directory)
        write_text(segment.directory / FAILED, f"{error}\n")
        say(f"{segment.entry.sequence} start {segment.number}: given up: {' '.join(str(error).split())[:200]}")
        return False
    if outcome.status != "complete":
        return False
    shutil.rmtree(segment.directory / FOLDER, ignore_errors=True)  # all that is needed has been taken out
    return True


def pack(manifest: Manifest, directory: Path, target: Path, every: int = 1) -> list[tuple[Path, int]]:
    """Write ``target/SEQUENCE/start-NNN.h5`` for every finished segment that is not there yet.

    One file per segment, so that a set that grows adds files and changes none.

    Parameters
    ----------
    every : int
        Keep each n-th frame.

    Returns
    -------
    list of (path, number of frames)
        What was written.
    """
    written = []
    for segment in segments(manifest, directory):
        path = packed_file(target, segment)
        if segment.state == "done" and not path.exists():
            frames = kept(manifest, segment, every)
            written.append((write_packed(frames, path), len(frames)))
    return written


def packed_file(target: Path, segment: Segment) -> Path:
    """Where the packed frames of a segment are."""
    return target / segment.home.name / f"start-{segment.number:03d}.h5"


def kept(manifest: Manifest, segment: Segment, every: int = 1) -> ForceFrames:
    """Frames of a finished segment without its beginning; ``run`` is the segment's number."""
    frames = collect(conformer(segment.entry.sequence, segment.number), [segment.directory])
    frames = frames.take((frames.time_ps > manifest.discard_ps).nonzero()[0][::every])
    source = RunRecord.read(segment.directory)
    facts = {
        "sequence": segment.entry.sequence,
        "role": segment.entry.role,
        "start": segment.number,
        "temperature_K": manifest.temperature_K,
        "force_field": PROTEIN_FORCE_FIELD,
        "water": "TIP3P",
        "ions": manifest.ions,
        "segment_ns": manifest.segment_ns,
        "discard_ps": manifest.discard_ps,
        "record_ps": manifest.record_ps * every,
        "atoms_in_box": None if source.molecule is None else source.molecule.atoms,
        "potential": source.potential,
        "bias": source.bias,
        "engine": source.platform,
        "versions": source.versions,
    }
    return replace(frames, run=np.full(len(frames), segment.number), provenance=facts)
