"""From force labels to a simulation, at the command line: train, export, verify, run, energy."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
import pytest

import mlsim
from mlsim.chem.catalog import find_system
from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.runs.trajectory import Run

SMALL = "--features 16 --blocks 1 --radial-functions 8 --epochs 2 --batch 32 --block-ps 1 --gap-ps 0.2 --held-out 0.2"
Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mlsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture(scope="module")
def frames(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred frames of the shipped training data."""
    source = find_system("alanine-dipeptide").directory / "training" / "frames.h5"
    shipped = ForceFrames.load(source).take(np.arange(200))
    assert shipped.molecule_digest == ala2.digest
    path = tmp_path_factory.mktemp("data") / "frames.h5"
    shipped.save(path)
    return path


@pytest.fixture(scope="module")
def fit(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fit") / "fit"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mlsim", "train", "issnet", str(frames), "-o", str(place), *SMALL.split()])
        with pytest.raises(SystemExit) as ended:
            program.main()
    assert not ended.value.code
    return place


def test_trained_model_becomes_a_force_field_that_runs(
    call: Call,
    fit: Path,
    ala2: Molecule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "forcefields"
    monkeypatch.setenv("MLSIM_PATH", str(tmp_path))
    assert call("export", fit, "--name", "road", "-o", store) == 0
    assert "relative error" in capsys.readouterr().out

    run = ("run", "alanine-dipeptide", "--solvent", "issnet:road", "--ns", 0.002, "--timestep-fs", 2, "--seed", 1)
    assert call(*run, "-o", tmp_path / "early") == 2
    assert "not verified yet" in capsys.readouterr().err
    assert not (tmp_path / "early").exists()

    assert call("verify", "road") == 0
    assert "checks passed" in capsys.readouterr().out
    card = ForceFieldArtifact.load(store / "road").card
    assert card.description.training.frames == json.loads((fit / "result.json").read_text())["n_train"]
    held_out = {entry.quantity: entry for entry in card.description.training.held_out}
    model = held_out["projected force error of model"]
    assert model.unit == "kJ/mol/nm"
    assert model.low is not None
    assert model.low <= model.value

    assert call(*run, "--report-ps", 0.2, "--platform", "Reference", "-o", tmp_path / "run") == 0
    replica = Run.open(tmp_path / "run").replicas[0]
    assert replica.positions().shape == (10, 22, 3)
    assert np.isfinite(replica.potential()).all()
    assert card.files_digest in (tmp_path / "run" / "run.json").read_text()

    capsys.readouterr()
    assert call("energy", replica.trajectory_path, "--forcefield", "road", "-o", tmp_path / "e.csv") == 0
    assert "10 frames" in capsys.readouterr().out
    with open(tmp_path / "e.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    expected, _ = mlsim.load_forcefield("road").bind(ala2).evaluate(replica.positions())
    np.testing.assert_allclose([float(row["energy_kJ_mol"]) for row in table], expected, atol=1e-7)


def test_energy_follows_the_atoms_whatever_their_order_in_the_file(
    call: Call, fit: Path, ala2: Molecule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "road"
    assert call("export", fit, "--name", "road", "-o", tmp_path, "--compress", 256) == 0
    assert call("verify", place) == 0
    ala2.to_pdb(tmp_path / "plain.pdb")
    plain = mdtraj.load_pdb(str(tmp_path / "plain.pdb"))
    generator = np.random.default_rng(0)
    xyz = plain.xyz + 0.002 * generator.normal(size=(4, 22, 3))
    order = np.concatenate([generator.permutation(6), 6 + generator.permutation(10), 16 + generator.permutation(6)])
    mixed = mdtraj.Trajectory(xyz[:, order], plain.topology.subset(np.arange(22)))
    for k, atom in enumerate(mixed.topology.atoms):
        atom.name, atom.element = plain.topology.atom(order[k]).name, plain.topology.atom(order[k]).element
    start = mdtraj.Trajectory(plain.xyz[:, order], mixed.topology)
    start.save_pdb(str(tmp_path / "mixed.pdb"))
    mdtraj.Trajectory(xyz, plain.topology).save_dcd(str(tmp_path / "plain.dcd"))
    mixed.save_trr(str(tmp_path / "mixed.trr"))
    results = []
    for name in ("plain.dcd", "mixed.trr"):
        pdb = tmp_path / f"{name.split('.')[0]}.pdb"
        output = tmp_path / f"{name}.csv"
        assert call("energy", tmp_path / name, "--top", pdb, "--forcefield", place, "-o", output) == 0
        with open(output, newline="") as handle:
            rows = list(csv.DictReader(handle))
        # a DCD file whose header has no time step says no times; the column is empty then, never a frame number
        assert all((row["time_ps"] == "") == (name == "plain.dcd") for row in rows)
        results.append([float(row["energy_kJ_mol"]) for row in rows])
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def refused(call: Call, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert call(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_bad_input_gets_one_line_and_leaves_nothing(
    call: Call, fit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    export = ("export", fit, "-o", store, "--name")
    assert "plain name" in refused(call, capsys, *export, "../up")
    assert "'compress': expected 'auto'" in refused(call, capsys, *export, "a", "--compress", "fine")
    assert "did you mean" in refused(call, capsys, *export, "a", "--system", "alanin-dipeptide")
    assert "another molecule" in refused(call, capsys, *export, "a", "--system", "alanine-tripeptide")
    assert "'scope'" in refused(call, capsys, *export, "a", "--scope", "all")
    assert "no finished training" in refused(call, capsys, "export", tmp_path, "--name", "a", "-o", store)
    assert not store.exists()
    assert "no force field 'nowhere'" in refused(call, capsys, "verify", "nowhere")
    energy = ("energy", tmp_path / "x.xtc", "--forcefield", "nowhere", "-o", tmp_path / "e.csv")
    assert "no such file" in refused(call, capsys, *energy)
    assert not (tmp_path / "e.csv").exists()
