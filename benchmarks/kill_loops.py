"""Does a command that was killed at any moment go on as if nothing had happened?

Every verb that writes over time is killed (SIGKILL, which no program can hear) before each of its file events in turn
(opening for writing, making a directory, renaming, removing), and at random moments. Then the command is given again
as the README says: with ``--resume``, or anew where that is refused. It must end well, and what it left must equal what
an undisturbed command left, byte for byte; columns of wall time and records of versions and times aside.

    python -m benchmarks.kill_loops --random 200            all verbs
    python -m benchmarks.kill_loops --verbs run exchange

How: this process imports the package once and forks for every command, so that a trial costs its work and not the
import. The child counts file events below its directory with an audit hook of Python and kills itself before the n-th;
nothing in the package knows of it. Events of C code (frames of an XTC file) are not seen; random kills meet those.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.result import Claim, write_result
from mlsim.chem.catalog import find_system, load_system
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.runs.restart import Checkpoint

#: Names of files that differ from call to call: records with times and versions, locks, pictures.
FREE = {
    "run.json",
    "result.json",
    ".lock",
    "learning-curve.png",
    "design.json",
    "test.json",
    "checkpoint.pt",
    "search.pt",
}
#: Columns of wall time in tables.
WALL = {"frames_per_s", "seconds"}
SMALL = "system: alanine-dipeptide\nsolvent: vacuum\nplatform: Reference\nseed: 3\nequilibration_ps: 0.04\n"
RUN = SMALL + "ns: 0.0001\nreport_ps: 0.02\ncheckpoint_minutes: 1.0e-9\n"
GROWING = RUN + "bias: metadynamics\nhill_every_ps: 0.02\nthen_fixed_ns: 0.00004\n"
EXCHANGE = (
    SMALL
    + "ns: 0.00008\nreport_ps: 0.04\nexchange_ps: 0.04\ntemperatures_K: [300.0, 330.0]\n"
    + ("checkpoint_minutes: 1.0e-9\n")
)


@dataclass(frozen=True)
class Verb:
    """A command, how it is continued, and whether it may be begun anew where that is refused."""

    name: str
    begin: Callable[[Path, Path], list[str]]
    resume: Callable[[Path, Path], list[str]] | None = None


def _run(*options: str, config: str = "run.yaml") -> Verb:
    return Verb(
        " ".join(("run", *options)) if config == "run.yaml" else "run, metadynamics and second stage",
        lambda inputs, out: ["run", str(inputs / config), "-o", str(out), *options],
        lambda inputs, out: ["run", "-o", str(out), "--resume"],
    )


def _train(inputs: Path, out: Path) -> list[str]:
    size = ["--features", "4", "--blocks", "1", "--radial-functions", "4", "--epochs", "3", "--batch", "16"]
    return ["train", "issnet", str(inputs / "frames.h5"), "-o", str(out), "--block-ps", "2", "--gap-ps", "0", *size]


def _reference(inputs: Path, out: Path) -> list[str]:
    return ["reference", "alanine-dipeptide", "-o", str(out), "--settings", str(inputs / "reference.yaml")]


def _label(inputs: Path, out: Path) -> list[str]:
    lengths = ["--count", "2", "--stderr", "none", "--min-ps", "0.04", "--max-ps", "0.4", "--equilibration-ps", "0"]
    place = ["--system", "alanine-dipeptide", "--box", str(inputs / "box"), "--platform", "CPU", "--threads", "1"]
    return ["label", str(inputs / "frames.h5"), "-o", str(out), *place, *lengths]


def _design(inputs: Path, out: Path) -> list[str]:
    return [
        "design",
        "--letters",
        "AEK",
        "--length",
        "3",
        "--charge",
        "1",
        "--steps",
        "3",
        "--seed",
        "1",
        "-o",
        str(out),
    ]


VERBS = {
    "run": _run(),
    "dcd": _run("--format", "dcd"),
    "replicas": _run("--replicas", "2", "--context", "separate"),
    "shared": _run("--replicas", "2", "--context", "shared"),
    "metadynamics": _run(config="growing.yaml"),
    "exchange": Verb(
        "exchange",
        lambda inputs, out: ["exchange", str(inputs / "exchange.yaml"), "-o", str(out)],
        lambda inputs, out: ["exchange", "-o", str(out), "--resume"],
    ),
    "train": Verb("train issnet", _train, lambda inputs, out: [*_train(inputs, out), "--resume"]),
    "design": Verb("design", _design, lambda inputs, out: ["design", "-o", str(out), "--resume"]),
    "reference": Verb("reference, OpenMM", _reference),
    "label": Verb("label", _label),
}


def prepare(inputs: Path) -> None:
    """Settings files and a few frames for all verbs."""
    for name, text in (("run", RUN), ("growing", GROWING), ("exchange", EXCHANGE)):
        (inputs / f"{name}.yaml").write_text(text)
    (inputs / "reference.yaml").write_text(
        "ns: 0.00008\nrecord_ps: 0.02\nreport_ps: 0.02\npadding_nm: 0.4\n"
        "box_equilibration_ps: 0.16\nequilibration_ps: 0.04\nplatform: CPU\nthreads: 1\ncheckpoint_minutes: 1.0e-9\n"
    )
    source = ForceFrames.load(find_system("alanine-dipeptide").directory / "training" / "frames.h5")
    source.take(np.arange(0, 96)).save(inputs / "frames.h5")


# ---- commands in children ----

_seen = 0


def _kill_before(place: Path, number: int) -> None:
    """Let this process kill itself before its ``number``-th file event below ``place`` (0: only count)."""
    inside = str(place)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        global _seen
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"):
            path, writes = arguments[0], True
        else:
            return
        if not writes or not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).startswith(inside):
            return
        _seen += 1
        if _seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def call(words: list[str], out: Path, at: int | None = None, after: float | None = None) -> tuple[int, str]:
    """Exit code (negative: signal) and output of a command in a forked child.

    Parameters
    ----------
    at : int, optional
        File event before which it kills itself; 0 to count them into ``OUT.count``.
    after : float, optional
        Time after which it is killed, s.
    """
    said = out.with_name(out.name + ".txt")
    child = os.fork()
    if child == 0:
        _command(words, out, at, said)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace") if said.exists() else ""


def _command(words: list[str], out: Path, at: int | None, said: Path) -> None:
    """Run the program in this (forked) process and end it."""
    code = 70
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["mlsim", *words]
        if at is not None:
            _kill_before(out, at)
        program.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        out.with_name(out.name + ".count").write_text(str(_seen))
        os._exit(code)


# ---- what was left ----


def left(out: Path) -> dict[str, bytes]:
    """What a command left, without what may differ between two of them; checkpoints by their content."""
    found: dict[str, bytes] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if not path.is_file() or path.name in FREE or path.name == "checkpoint_prev.chk":
            continue
        found[name] = _content(path, out)
    return found


def _content(path: Path, out: Path) -> bytes:
    if path.suffix == ".chk":
        saved = Checkpoint.load(path.parent)
        arrays = {name: array.tobytes() for name, array in sorted(saved.arrays.items())}
        return repr((saved.step, saved.context, sorted(saved.streams.items()), saved.identity, arrays)).encode()
    if path.name == "history.csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return repr([{k: v for k, v in row.items() if k not in WALL} for row in rows]).encode()
    if path.suffix == ".h5":
        frames = ForceFrames.load(path)
        return frames.positions.tobytes() + frames.forces.tobytes() + frames.bias.tobytes()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return repr([(n, archive[n].tobytes()) for n in sorted(archive.files) if n != "wall_seconds"]).encode()
    return path.read_bytes().replace(str(out).encode(), b"OUT")


@dataclass
class Tally:
    """Counts of one verb, and what went wrong."""

    verb: str
    events: int = 0
    at_events: int = 0
    at_random: int = 0
    began_anew: int = 0
    faults: list[str] = None  # type: ignore[assignment]


def recover(verb: Verb, inputs: Path, out: Path) -> tuple[str | None, bool]:
    """Give the command again; what went wrong, and whether it was begun anew."""
    anew = verb.resume is None
    code, said = call((verb.resume or verb.begin)(inputs, out), out)
    if code == 2 and verb.resume is not None:
        if said.count("\n") != 1:
            return f"resume said more than a line: {said[:200]!r}", False
        anew = True
        code, said = call(verb.begin(inputs, out), out)
    return (None if code == 0 else f"exit {code}: {said[-300:]!r}"), anew


def compare(out: Path, whole: dict[str, bytes]) -> str | None:
    """How what was left differs from what an undisturbed command left."""
    found = left(out)
    odd = [name for name in sorted(found.keys() | whole.keys()) if found.get(name) != whole.get(name)]
    return f"differs: {', '.join(odd[:5])}" if odd else None


@contextmanager
def _fresh(place: Path) -> Iterator[Path]:
    out = place / "o"
    shutil.rmtree(out, ignore_errors=True)
    yield out


def trial(verb: Verb, inputs: Path, place: Path, whole: dict[str, bytes], tally: Tally, **how: float) -> bool:
    """Kill once and recover; whether the command was killed before it ended."""
    with _fresh(place) as out:
        code, said = call(verb.begin(inputs, out), out, **how)  # type: ignore[arg-type]
        if code == 0 and "at" in how:
            return False
        where = ", ".join(f"{key} {value:.4g}" for key, value in how.items())
        if code not in (0, -signal.SIGKILL):
            tally.faults.append(f"{where}: the command itself ended with {code}: {said[-200:]!r}")
            return True
        fault, anew = recover(verb, inputs, out)
        tally.began_anew += anew
        fault = fault or compare(out, whole)
        if fault is not None:
            tally.faults.append(f"{where}: {fault}")
        return True


def loop(name: str, inputs: Path, place: Path, kills: int, seed: int, step: int = 1) -> Tally:
    """Every ``step``-th file event of a verb once, and ``kills`` random moments."""
    verb, tally = VERBS[name], Tally(VERBS[name].name, faults=[])
    with _fresh(place) as out:
        began = time.monotonic()
        code, said = call(verb.begin(inputs, out), out, at=0)
        spent = time.monotonic() - began
        if code != 0:
            tally.faults.append(f"undisturbed: exit {code}: {said[-300:]!r}")
            return tally
        whole = left(out)
        tally.events = int((place / "o.count").read_text())
    at = 1
    while trial(verb, inputs, place, whole, tally, at=at):
        tally.at_events += 1
        at += step
    draw = random.Random(f"{seed} {name}")
    for _ in range(kills):
        trial(verb, inputs, place, whole, tally, after=draw.uniform(0.0, spent))
        tally.at_random += 1
    return tally


def main() -> None:
    """Run the loops and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--random", type=int, default=200, help="Random kills, over all verbs.")
    parser.add_argument("--step", type=int, default=1, help="Every n-th file event only.")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    load_system("alanine-dipeptide")
    tallies = []
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        inputs.mkdir()
        prepare(inputs)
        if "label" in given.verbs:
            code, said = call(_reference(inputs, inputs / "water"), inputs / "water")
            assert code == 0, said
            shutil.copytree(inputs / "water" / "seed-0001", inputs / "box")
        for verb in given.verbs:
            place = Path(name) / verb
            place.mkdir()
            began = time.monotonic()
            tally = loop(verb, inputs, place, given.random // len(given.verbs), given.seed, given.step)
            tallies.append(tally)
            print(f"{tally} in {time.monotonic() - began:.0f} s", flush=True)
            _record(tallies)  # a run that is cut leaves what it counted


def _record(tallies: list[Tally]) -> None:
    faults = sum(len(t.faults) for t in tallies)
    kills = sum(t.at_events + t.at_random for t in tallies)
    claim = Claim(
        "kills", f"of {kills} killed commands this many did not end like an undisturbed one", faults, "0", not faults
    )
    rows = [vars(t) for t in tallies]
    write_result(
        "kill_loops", "Does a command that was killed at any moment go on as if nothing had happened?", rows, [claim]
    )


if __name__ == "__main__":
    main()
