"""``mlsim run`` as a user meets it: a killed process, a full disk, bad input."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.runs.restart import locked
from mlsim.runs.trajectory import Run

PROGRAM = [sys.executable, "-m", "mlsim.cli.main"]
VACUUM = ["run", "alanine-dipeptide", "--solvent", "vacuum", "--platform", "Reference", "--seed", "3"]


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["mlsim", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return int(ended.value.code or 0)


def refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refusal prints."""
    assert call(arguments, monkeypatch) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_a_run_leaves_a_readable_trajectory_and_a_full_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r"
    assert call([*VACUUM, "--ns", "0.01", "-o", str(out)], monkeypatch) == 0
    assert "10 frames" in capsys.readouterr().out
    replica = Run.open(out).replicas[0]
    assert replica.positions().shape == (10, 22, 3)
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["platform"]["name"] == "Reference"
    assert {"openmm", "torch", "numpy", "python"} <= record["versions"].keys()
    assert record["molecule"]["digest"]
    assert "--solvent vacuum" in record["command"]


def test_several_replicas_in_processes_equal_those_made_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = [*VACUUM, "--ns", "0.004", "--replicas"]
    assert call([*base, "2", "-o", str(tmp_path / "two"), "--processes", "2"], monkeypatch) == 0
    assert call([*base, "3", "-o", str(tmp_path / "three")], monkeypatch) == 0
    two, three = (Run.open(tmp_path / name) for name in ("two", "three"))
    assert len(two.replicas) == 2
    assert len(three.replicas) == 3
    for a, b in zip(two.replicas, three.replicas, strict=False):
        np.testing.assert_array_equal(a.positions(), b.positions())
    assert np.abs(three.replicas[0].positions() - three.replicas[1].positions()).max() > 1e-3


def test_a_config_file_runs_and_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("system: alanine-dipeptide\nsolvent: vacuum\nns: 5.0\nplatform: Reference\nreport_ps: 0.4\n")
    assert call(["run", str(config), "--ns", "0.004", "-o", str(tmp_path / "r")], monkeypatch) == 0
    saved = (tmp_path / "r" / "config.yaml").read_text()
    assert "ns: 0.004" in saved
    assert "report_ps: 0.4" in saved
    assert "seed: null" not in saved


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_resumes_to_the_same_bits(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    config = tmp_path / "c.yaml"
    config.write_text(
        "system: alanine-dipeptide\n"
        "solvent: vacuum\nns: 1000\nplatform: Reference\nseed: 3\ncheckpoint_minutes: 0.005\n"
    )
    process = subprocess.Popen([*PROGRAM, "run", str(config), "-o", str(killed)], stderr=subprocess.PIPE, text=True)
    while not (killed / "trajectory.xtc").exists() or (killed / "trajectory.xtc").stat().st_size < 30_000:
        time.sleep(0.05)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    process.send_signal(number)
    process.communicate(timeout=60)
    expected = -9 if number == signal.SIGKILL else 128 + number
    assert process.returncode == expected
    frames = Run.open(killed).replicas[0].n_frames
    total = f"{(frames + 50) * 0.001:.3f}"
    assert call(["run", "-o", str(killed), "--resume", "--ns", total], monkeypatch) == 0
    assert call(["run", str(config), "-o", str(whole), "--ns", total], monkeypatch) == 0
    for name in ("trajectory.xtc", "log.csv", "topology.pdb"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_full_disk_stops_with_one_line_and_nothing_before_the_checkpoint_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    limit = 60_000

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    config = tmp_path / "c.yaml"
    config.write_text(
        "system: alanine-dipeptide\n"
        "solvent: vacuum\nns: 1\nplatform: Reference\nseed: 3\ncheckpoint_minutes: 0.005\nreport_ps: 0.1\n"
    )
    done = subprocess.run(
        [*PROGRAM, "run", str(config), "-o", str(out)],
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")},
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "space" in lines[0] or "disk" in lines[0]
    assert call(["run", "-o", str(out), "--resume", "--ns", "0.1"], monkeypatch) == 0
    assert call(["run", str(config), "-o", str(tmp_path / "whole"), "--ns", "0.1"], monkeypatch) == 0
    assert (out / "trajectory.xtc").read_bytes() == (tmp_path / "whole" / "trajectory.xtc").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "alanine-dipeptid", "--ns", "1"], "alanine-dipeptide"),
        (["run", "ACE-XYZ-NME", "--ns", "1"], "XYZ"),
        (["run", "alanine-dipeptide", "--solvent", "gbn22", "--ns", "1"], "did you mean 'gbn2'"),
        (["run", "alanine-dipeptide", "--solvent", "issnet:nothing", "--ns", "1"], "nothing"),
        (["run", "alanine-dipeptide", "--solvent", "vacuum", "--ns", "1", "--timestep-fs", "-2"], "timestep_fs"),
        (["run", "alanine-dipeptide", "--solvent", "vacuum", "--ns", "1", "--temperature", "0"], "temperature_K"),
        (["run", "alanine-dipeptide", "--solvent", "vacuum"], "ns"),
        (["run", "alanine-dipeptide", "--ns", "one"], "ns"),
        (["run", "alanine-dipeptide", "--ns", "1", "--solvent", "vacuum", "--platform", "HIP"], "not available"),
        (["run", "chignolin", "--ns", "1", "--solvent", "issnet:issnet-ala2"], "not transferable"),
        (["run", "nothing.pdb", "--ns", "1"], "nothing.pdb"),
        (["run", "nothing.yaml", "--ns", "1"], "no such file"),
        (["run", "--resume"], "no run to resume"),
        (["run", "alanine-dipeptide", "--nss", "1"], "--nss"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "r"
    if arguments[0] == "run":
        arguments = [*arguments, "-o", str(out)]
    assert message in refused(arguments, monkeypatch, capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_in_a_config_file_gets_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("system: alanine-dipeptide\nns: 1\nsolvent: vacuum\ntemprature_K: 310\n")
    line = refused(["run", str(config), "-o", str(tmp_path / "r")], monkeypatch, capsys)
    assert "temprature_K" in line
    assert "did you mean 'temperature_K'" in line
    assert not (tmp_path / "r").exists()


def broken_pdb(ala2: Molecule, path: Path, how: str) -> None:
    if how == "mirror":
        ala2.with_positions(ala2.positions * np.array([1.0, 1.0, -1.0])).to_pdb(path)
        return
    ala2.to_pdb(path)
    lines = path.read_text().splitlines(keepends=True)
    if how == "missing":
        lines = [line for line in lines if " CB  ALA" not in line]
    elif how == "nan":
        k = next(k for k, line in enumerate(lines) if " CA  ALA" in line)
        lines[k] = lines[k][:30] + "     nan     nan     nan" + lines[k][54:]
    path.write_text("".join(lines))


@pytest.mark.parametrize(("how", "message"), [("mirror", "not the L form: ALA2"), ("missing", "CB"), ("nan", "ALA")])
def test_a_broken_pdb_is_refused_and_named(
    how: str,
    message: str,
    ala2: Molecule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_pdb(ala2, tmp_path / "x.pdb", how)
    out = tmp_path / "r"
    arguments = ["run", str(tmp_path / "x.pdb"), "--solvent", "vacuum", "--ns", "1", "-o", str(out)]
    assert message in refused(arguments, monkeypatch, capsys)
    assert not out.exists()


def test_a_corrupted_checkpoint_and_a_busy_directory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r"
    assert call([*VACUUM, "--ns", "0.004", "-o", str(out)], monkeypatch) == 0
    capsys.readouterr()
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with locked(out):
        line = refused(["run", "-o", str(out), "--resume", "--ns", "0.008"], monkeypatch, capsys)
    assert "in use" in line
    assert "--resume" in refused([*VACUUM, "--ns", "0.004", "-o", str(out)], monkeypatch, capsys)
    (out / "checkpoint.chk").write_bytes(before["checkpoint.chk"][:-40])
    assert "corrupted checkpoint" in refused(["run", "-o", str(out), "--resume", "--ns", "1"], monkeypatch, capsys)
    for name in ("trajectory.xtc", "log.csv"):
        assert (out / name).read_bytes() == before[name]
