"""Runs that were interrupted, damaged or typed elsewhere: nothing is doubled, lost, or bound to a directory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.locks import lock
from mlsim.runs.trajectory import Run

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Calls the program; returns exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(
        "system: alanine-dipeptide\nsolvent: vacuum\nplatform: Reference\nns: 0.0004\nreport_ps: 0.1\n"
        "equilibration_ps: 0\nseed: 3\n"
    )
    return path


def content(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def refusal(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("kind", ["xtc", "dcd"])
def test_a_run_whose_record_is_lost_is_refused_and_no_frame_is_doubled(
    cli: Cli, config: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "r"
    assert cli("run", config, "--format", kind, "-o", out)[0] == 0
    (out / "run.json").unlink()
    before = content(out)
    assert "run.json is missing" in refusal(cli("run", "-o", out, "--resume", "--ns", 0.0008))
    assert "run.json is missing" in refusal(cli("run", config, "-o", out))
    assert content(out) == before


def test_a_replica_whose_record_is_lost_is_refused_before_the_others_move(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    assert cli("run", config, "--replicas", 2, "-o", out)[0] == 0
    (out / "replica-01" / "run.json").unlink()
    before = content(out)
    assert "replica-01: holds a checkpoint" in refusal(cli("run", "-o", out, "--resume", "--ns", 0.0008))
    assert content(out) == before


@pytest.mark.parametrize(
    ("begun", "change", "message"),
    [
        ((), ("--temperature", 350), "temperature_K 300.0 (now 350.0)"),
        (("--replicas", 2), ("--temperature", 350), "temperature_K 300.0 (now 350.0)"),
        (("--replicas", 2), ("--replicas", 1), "begun with 2 replicas, which cannot become 1"),
        ((), ("--replicas", 2), "begun with 1 replica, which cannot become 2"),
        ((), ("chignolin",), "holds a run of 'alanine-dipeptide', got 'chignolin'"),
        (("--replicas", 2, "--context", "shared"), ("--timestep-fs", 2), "timestep_fs 4.0 (now 2.0)"),
    ],
)
def test_a_refused_resume_rewrites_nothing_and_the_run_goes_on_afterwards(
    cli: Cli, config: Path, tmp_path: Path, begun: tuple[object, ...], change: tuple[object, ...], message: str
) -> None:
    out = tmp_path / "r"
    assert cli("run", config, "-o", out, *begun)[0] == 0
    before = content(out)
    assert message in refusal(cli("run", "-o", out, "--resume", "--ns", 0.0008, *change))
    assert content(out) == before
    assert cli("run", "-o", out, "--resume", "--ns", 0.0008)[0] == 0
    assert Run.open(out).replicas[0].n_frames == 8


@pytest.mark.parametrize("begun", [(), ("--replicas", 2), ("--replicas", 2, "--context", "shared")])
def test_a_directory_in_use_is_refused_before_anything_is_written(
    cli: Cli, config: Path, tmp_path: Path, begun: tuple[object, ...]
) -> None:
    out = tmp_path / "r"
    assert cli("run", config, "-o", out, *begun)[0] == 0
    before = content(out)
    with lock(out):
        assert "in use" in refusal(cli("run", "-o", out, "--resume", "--ns", 0.0008))
    assert content(out) == before
    (tmp_path / "new").mkdir()
    with lock(tmp_path / "new"):
        assert "in use" in refusal(cli("run", config, "-o", tmp_path / "new", *begun))
    assert [p.name for p in (tmp_path / "new").iterdir()] == [".lock"]


def test_a_longer_length_stays_when_the_run_is_resumed_once_more(cli: Cli, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    assert cli("run", config, "-o", out)[0] == 0
    assert cli("run", "-o", out, "--resume", "--ns", 0.0008)[0] == 0
    assert "ns: 0.0008" in (out / "config.yaml").read_text()
    assert cli("run", "-o", out, "--resume")[0] == 0
    assert Run.open(out).replicas[0].n_frames == 8


def test_a_run_is_resumed_from_any_directory(
    cli: Cli, ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ala2.to_pdb(tmp_path / "pep.pdb")
    (tmp_path / "inputs").mkdir()
    shutil.copy(tmp_path / "pep.pdb", tmp_path / "inputs" / "own.pdb")
    (tmp_path / "inputs" / "c.yaml").write_text(
        "system: own.pdb\nsolvent: vacuum\nplatform: Reference\nns: 0.0004\nreport_ps: 0.1\nequilibration_ps: 0\n"
    )
    monkeypatch.chdir(tmp_path)
    typed = ("--solvent", "vacuum", "--platform", "Reference", "--ns", 0.0004, "--report-ps", 0.1)
    assert cli("run", "pep.pdb", *typed, "-o", "r")[0] == 0
    assert cli("run", "inputs/c.yaml", "-o", "s")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    for name in ("r", "s"):
        assert cli("run", "-o", f"../{name}", "--resume", "--ns", 0.0008)[0] == 0
        assert Run.open(tmp_path / name).replicas[0].n_frames == 8
    assert cli("run", "../pep.pdb", "-o", "../r", "--resume", "--ns", 0.0012)[0] == 0  # the same file, typed otherwise


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solvent: vacuum\nns: 1\n", "key 'system' is missing"),
        ("system: alanine-dipeptide\nns: 1\nns: 2\n", "key 'ns' is given twice"),
        ("system: alanine-dipeptide\nns: 1\nseed: 010\n", "'010' is a number that is not decimal"),
        ("system: alanine-dipeptide\nns: 1:30\n", "'1:30' is a number that is not decimal"),
        ("system: alanine-dipeptide\nns: 0.0004\n", "shorter than 1 ps, the time between frames"),
    ],
)
def test_a_settings_file_that_reads_otherwise_than_it_looks_is_refused(
    cli: Cli, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert message in refusal(cli("run", tmp_path / "c.yaml", "-o", tmp_path / "r"))
    assert not (tmp_path / "r").exists()
