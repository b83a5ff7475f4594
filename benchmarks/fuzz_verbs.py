"""What do the verbs do with input that nobody means: wrong types and ranges, damaged files, impossible places?

Hypothesis draws commands from the options that every verb declares, and files that are cut, flipped, joined, emptied or
of another kind. A command may end with 0, or with one line and 2 (3 where numbers blow up). Anything else is a fault:
a traceback, another exit code, more than a line, or something left behind by a command that was refused.

    python -m benchmarks.fuzz_verbs --cases 200              for every verb
    python -m benchmarks.fuzz_verbs --verbs run fes

How: this process imports the package once and forks for every command (a crash of a library ends the child only), with
limits of processor time and memory; long work that runs into the first counts as ``stopped`` and is no fault.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import typer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from benchmarks.result import Claim, write_result
from mlsim.chem.catalog import find_system
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames

#: Processor time (s) and memory beyond the idle process (bytes) of a case.
SECONDS, MEMORY = 5, 2 * 1024**3
#: verb -> words of a command that works and ends soon; ``{name}`` are files of :func:`prepare`.
VERBS: dict[str, list[str]] = {
    "build": ["ACE-ALA-NME", "-o", "{out}"],
    "systems": [],
    "run": ["{pdb}", "--solvent", "vacuum", "--platform", "Reference", "--ns", "0.0004", "--report-ps", "0.1",
        "--equilibration-ps", "0", "-o", "{out}"],
    "exchange": ["{pdb}", "--solvent", "vacuum", "--platform", "Reference", "--ns", "0.0002", "--report-ps", "0.1",
        "--temperatures", "300:330:2", "-o", "{out}"],
    "reference": ["{pdb}", "--ns", "0.0002", "--platform", "CPU", "--padding-nm", "0.4", "-o", "{out}"],
    "label": ["{frames}", "--system", "{pdb}", "--count", "1", "-o", "{out}"],
    "energy": ["{xtc}", "--top", "{pdb}", "--forcefield", "issnet-ala2", "-o", "{out}"],
    "train issnet": ["{frames}", "--features", "4", "--blocks", "1", "--radial-functions", "4", "--epochs", "1",
        "--batch", "16", "--block-ps", "2", "--gap-ps", "0", "-o", "{out}"],
    "verify": ["{field}"],
    "fes": ["{run}", "-o", "{out}"],
    "compare": ["{run}", "--reference", "{run}", "-o", "{out}"],
    "sample": ["dw4", "-o", "{out}.npz"],
    "encode": ["{run}", "--encoder", "hsic-alanine-dipeptide", "-o", "{out}.npz"],
    "detect": ["{surface}"],
    "design": ["--letters", "AEK", "--length", "2", "--charge", "1", "--steps", "2", "--seed", "1", "-o", "{out}"],
}  # fmt: skip
_WORDS = ["", " ", "-", "--", "nan", "inf", "-inf", "1e400", "-1", "0", "0.5", "1e-300", "9" * 30, "00", "0x10", "true",
    "ü", "ACE-ALA-NME", "alanine-dipeptide", "chignolin", "ACE-D-ALA-NME", "DALA", "phi", "phi:2", "phi:99", "../..",
    "/", ".", "/dev/null", "/proc/self/mem", "a" * 300, "x\ny", "'", "$HOME", "{pdb}", "{xtc}", "{run}", "{frames}",
    "{field}", "{surface}", "{yaml}", "{out}", "{missing}", "{pipe}", "{dangling}", "{directory}", "vacuum", "gbn2",
    "issnet", "gbn2+obc2", "none", "metadynamics", "Reference", "CUDA", "300:330:2", "300:", "1,2", "auto"]  # fmt: skip
#: Files of a case that may be damaged.
_FILES = ("pdb", "xtc", "frames", "surface", "yaml", "run/log.csv", "run/trajectory.xtc", "run/run.json",
    "run/topology.pdb", "run/config.yaml", "run/checkpoint.chk", "field/card.yaml", "field/config.yaml",
    "field/weights.safetensors", "field/table.npz", "field/model.pt", "field/molecule.pdb")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command and the damage that is done to its files before: (file, kind, place in 0..1, value)."""

    words: tuple[str, ...]
    damage: tuple[tuple[str, str, float, int], ...] = ()


@dataclass
class Tally:
    """Counts of one verb."""

    verb: str
    cases: int = 0
    ended_well: int = 0
    refused: int = 0
    unphysical: int = 0
    stopped: int = 0
    tracebacks: int = 0
    wrong_exit_codes: int = 0
    more_than_a_line: int = 0
    left_behind: int = 0
    faults: list[str] = field(default_factory=list)


def options_of(verb: str) -> list[tuple[str, bool]]:
    """Options that a verb declares, and whether each is a flag."""
    command: Any = typer.main.get_command(program.app)
    for name in verb.split():
        command = command.commands[name]
    found = []
    for parameter in command.params:
        names = [name for name in parameter.opts if name.startswith("-") and name != "--help"]
        found += [(name, bool(getattr(parameter, "is_flag", False))) for name in names[:1]]
    return found


def cases(verb: str) -> st.SearchStrategy[Case]:
    """Commands of a verb: the one that works, with words exchanged, left out and added, and files damaged."""
    base, declared = [*verb.split(), *VERBS[verb]], options_of(verb)
    values = st.one_of(
        st.sampled_from(_WORDS),
        st.integers(-(2**70), 2**70).map(str),
        st.floats(allow_nan=True).map(repr),
        st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20),
    )
    exchanges = st.lists(
        st.tuples(st.integers(len(verb.split()), max(len(base) - 1, len(verb.split()))), values), max_size=2
    )
    added = st.lists(st.tuples(st.sampled_from(declared), values), max_size=2) if declared else st.just([])
    damage = st.lists(
        st.tuples(
            st.sampled_from(_FILES),
            st.sampled_from(["cut", "flip", "byte", "double", "empty", "text", "zeros", "binary", "link"]),
            st.floats(0.0, 1.0),
            st.integers(0, 255),
        ),
        max_size=2,
    )

    def make(parts: tuple[Any, ...]) -> Case:
        changed, more, dropped, harm = parts
        words = list(base)
        for place, value in changed:
            if place < len(words):
                words[place] = value
        if dropped is not None and dropped < len(words):
            del words[dropped]
        for (name, is_flag), value in more:
            words += [name] if is_flag else [name, value]
        return Case(tuple(words), tuple(harm))

    dropped = st.one_of(st.none(), st.none(), st.integers(len(verb.split()), max(len(base) - 1, len(verb.split()))))
    return st.tuples(exchanges, added, dropped, damage).map(make)


# ---- one case ----


def prepare(place: Path) -> None:
    """Honest files that cases begin with."""
    system = find_system("alanine-dipeptide").directory
    shutil.copy(system / "structure.pdb", place / "pdb.pdb")
    ForceFrames.load(system / "training" / "frames.h5").take(np.arange(96)).save(place / "frames.h5")
    shutil.copytree(system.parent.parent / "forcefields" / "issnet-ala2", place / "field")
    shutil.copy(next((system / "reference").glob("surface-*.npz")), place / "surface.npz")
    (place / "yaml.yaml").write_text("system: alanine-dipeptide\nsolvent: vacuum\nplatform: Reference\nns: 0.0002\n")
    words = ["run", *VERBS["run"]]
    code, _, said = execute([w.format(pdb="pdb.pdb", out="run") for w in words], place)
    assert code == 0, said
    shutil.copy(place / "run" / "trajectory.xtc", place / "xtc.xtc")
    (place / "directory").mkdir()
    os.mkfifo(place / "pipe")
    (place / "dangling").symlink_to("nowhere/at/all")


_NAMES = {"pdb": "pdb.pdb", "xtc": "xtc.xtc", "frames": "frames.h5", "surface": "surface.npz", "yaml": "yaml.yaml",
    "run": "run", "field": "field", "out": "out", "missing": "missing", "pipe": "pipe", "dangling": "dangling",
    "directory": "directory"}  # fmt: skip


def _damaged(path: Path, kind: str, where: float, value: int) -> None:
    content = bytearray(path.read_bytes())
    at = min(int(where * len(content)), max(len(content) - 1, 0))
    if kind == "cut":
        content = content[:at]
    elif kind == "flip" and content:
        content[at] ^= 1 << (value % 8)
    elif kind == "byte" and content:
        content[at] = value
    elif kind == "double":
        content = content * 2
    elif kind == "empty":
        content = bytearray()
    elif kind == "text":
        content = bytearray("nothing of that kind, ü\n".encode())
    elif kind == "zeros":
        content += bytes(1000)
    elif kind == "binary":
        content = bytearray(range(256)) * 4
    path.unlink()
    if kind == "link":
        path.symlink_to("/nonexistent")
    else:
        path.write_bytes(content)


def execute(words: list[str], cwd: Path) -> tuple[int, str, str]:
    """Exit code (negative: signal), output and errors of a command in a forked child."""
    log = cwd.parent / "log"
    log.mkdir(exist_ok=True)
    child = os.fork()
    if not child:
        code = 70
        try:
            os.chdir(cwd)
            for number, name in ((0, os.devnull), (1, log / "out"), (2, log / "err")):
                os.dup2(os.open(name, os.O_RDWR | (0 if number == 0 else os.O_CREAT | os.O_TRUNC), 0o600), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS,) * 2)
            signal.alarm(8 * SECONDS)
            sys.argv = ["mlsim", *words]
            program.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    said = [(log / name).read_text(errors="replace") if (log / name).exists() else "" for name in ("out", "err")]
    return os.waitstatus_to_exitcode(status), said[0], said[1]


def judge(case: Case, honest: Path, place: Path, tally: Tally) -> str | None:
    """Carry out a case in a fresh copy of the honest files; what is wrong with how it ended, if anything."""
    cwd = place / "here"
    shutil.rmtree(cwd, ignore_errors=True)
    shutil.copytree(honest, cwd, symlinks=True, ignore=lambda _, names: ["pipe"] if "pipe" in names else [])
    os.mkfifo(cwd / "pipe")
    for name, kind, where, value in case.damage:
        path = cwd / (_NAMES.get(name, name))
        if path.is_file() and not path.is_symlink():
            _damaged(path, kind, where, value)
    words = [_filled(word) for word in case.words]
    before = set(cwd.rglob("*"))
    code, _, error = execute(words, cwd)
    after = {path for path in cwd.rglob("*") if path.name != ".lock"}
    tally.cases += 1
    fault = None
    if "Traceback (most recent call last)" in error:
        tally.tracebacks += 1
        fault = "traceback: " + error.strip().splitlines()[-1][:200]
    elif code in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL):
        tally.stopped += 1
    elif code == 0:
        tally.ended_well += 1
    elif code == 3:
        tally.unphysical += 1
    elif code == 2:
        tally.refused += 1
        lines = [line for line in error.splitlines() if line.strip() and not line.startswith("warning: ")]
        if len(lines) != 1:
            tally.more_than_a_line += 1
            fault = f"{len(lines)} lines: {error[:300]!r}"
        elif left := sorted(str(p.relative_to(cwd)) for p in after - before):
            tally.left_behind += 1
            fault = f"left {', '.join(left[:4])}: {lines[0][:200]}"
    else:
        tally.wrong_exit_codes += 1
        fault = f"exit {code}: {error[-300:]!r}"
    if fault is not None:
        tally.faults.append(f"{fault} | {' '.join(words)} | {case.damage}"[:900])
    return fault


def _filled(word: str) -> str:
    for name, file in _NAMES.items():
        word = word.replace("{" + name + "}", file)
    return word


def fuzz(verb: str, count: int, honest: Path, place: Path, seed: int) -> Tally:
    """``count`` cases of a verb; nothing is raised, everything is counted."""
    tally = Tally(verb)

    @seeded(seed)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=HealthCheck
    )
    @given(cases(verb))
    def carry_out(case: Case) -> None:
        judge(case, honest, place, tally)

    carry_out()
    return tally


def warm() -> None:
    """Import what the verbs use, so that a case costs its work only."""
    import h5py  # noqa: F401
    import mdtraj  # noqa: F401
    import openmm  # noqa: F401
    import PIL.Image  # noqa: F401
    import torch

    import mlsim.deploy.verify
    import mlsim.repr
    import mlsim.workflow.analysis.sources
    import mlsim.workflow.simulation.run  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    """Draw and try cases of the verbs, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--cases", type=int, default=200, help="Cases of every verb.")
    parser.add_argument("--seed", type=int, default=1)
    given_ = parser.parse_args()
    warm()
    tallies = []
    with tempfile.TemporaryDirectory() as name:
        honest, place = Path(name) / "honest", Path(name) / "case"
        honest.mkdir()
        place.mkdir()
        prepare(honest)
        for verb in given_.verbs:
            tally = fuzz(verb, given_.cases, honest, place, given_.seed)
            tallies.append(tally)
            print({k: v for k, v in vars(tally).items() if k != "faults"}, flush=True)
            for fault in dict.fromkeys(tally.faults):
                print("  ", fault, flush=True)
            _record(tallies)  # a run that is cut leaves what it counted


def _record(tallies: list[Tally]) -> None:
    total, faults = sum(t.cases for t in tallies), sum(len(t.faults) for t in tallies)
    claim = Claim(
        "doors", f"of {total} commands this many ended in another way than the doors say", faults, "0", not faults
    )
    rows = [vars(tally) | {"faults": tally.faults[:10]} for tally in tallies]
    write_result("fuzz_verbs", "What do the verbs do with input that nobody means?", rows, [claim])


if __name__ == "__main__":
    main()
