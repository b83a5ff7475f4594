"""From conformations alone to a simulation, at the command line: train ebm, export, verify, run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mlsim
from mlsim.chem.catalog import find_system
from mlsim.chem.molecule import Molecule
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.models.ebm.energy_based import EBMSettings
from mlsim.models.weights import load
from mlsim.potentials.dihedral_bias import load_grid
from mlsim.runs.trajectory import Run
from mlsim.units import kT

SMALL = ["--features", "8", "--layers", "1", "--batch", "50", "--steps", "2", "--held-out", "0.2"]
Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mlsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0)

    return run


def test_conformations_of_a_cluster_become_a_force_field_that_runs(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLSIM_PATH", str(tmp_path))
    fit = tmp_path / "fit"
    assert call("train", "ebm", "dw4", "-o", fit, "--frames", 200, "--epochs", 2, *SMALL) == 0
    assert "held-out denoising error" in capsys.readouterr().out
    assert call("export", fit, "--name", "road", "-o", tmp_path / "forcefields") == 0
    run = ("run", "dw4", "--solvent", "learned:road", "--ns", 0.0005, "--timestep-fs", 5, "--report-ps", 0.05)
    assert call(*run, "-o", tmp_path / "early") == 2
    assert "not verified yet" in capsys.readouterr().err
    assert call("verify", "road") == 0
    card = ForceFieldArtifact.load(tmp_path / "forcefields" / "road").card
    assert card.kind == "ebm"
    assert card.description.role == "potential"
    assert "reference of dw4" in card.description.training.data
    assert call(*run, "--seed", 1, "--platform", "Reference", "-o", tmp_path / "run") == 0
    replica = Run.open(tmp_path / "run").replicas[0]
    assert replica.positions().shape == (10, 4, 3)
    energies, forces = mlsim.load_forcefield("road").bind(mlsim.load_system("dw4")).evaluate(replica.positions())
    np.testing.assert_allclose(energies, replica.potential(), atol=0.05)  # positions are rounded in the file
    assert not forces[..., 2].any()

    again = ("train", "ebm", "dw4", "--frames", 200, "--epochs", 1, *SMALL, "--warm", 0, "--reset", 0, "--begin-at")
    assert call(*again, fit, "-o", tmp_path / "longer") == 0
    before, after = (load(place).state_dict() for place in (fit, tmp_path / "longer"))
    assert 0.0 < max(float((after[name] - before[name]).abs().max()) for name in before) < 0.5
    first, last = (json.loads((place / "result.json").read_text()) for place in (fit, tmp_path / "longer"))
    assert first["identity"] != last["identity"]
    capsys.readouterr()
    assert call(*again, fit, "--features", 4, "-o", tmp_path / "other") == 2
    assert "found another model" in capsys.readouterr().err
    assert call(*again, fit, "--buffer", 8, "-o", tmp_path / "other") == 2
    assert "first negatives: expected shape" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()

    resume = ("train", "ebm", "dw4", "-o", fit, "--frames", 200, *SMALL, "--resume", "--epochs")
    capsys.readouterr()
    assert call(*resume, 3) == 2
    assert "other settings" in capsys.readouterr().err
    assert call(*resume, 2) == 0


def bonds_and_angles(molecule: Molecule) -> set[tuple[int, int]]:
    bonds = {frozenset(bond) for bond in molecule.bonds.tolist()}
    angles = {a ^ b for a in bonds for b in bonds if len(a & b) == 1}
    return {(min(pair), max(pair)) for pair in bonds | angles}


def test_conformations_of_a_peptide_become_a_force_field_with_springs(
    call: Call, ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSIM_PATH", str(tmp_path))
    shipped = ForceFrames.load(find_system("alanine-dipeptide").directory / "training" / "frames.h5")
    shipped.take(np.arange(0, 30000, 100)).save(tmp_path / "frames.h5")
    fit = tmp_path / "fit"
    frames = tmp_path / "frames.h5"
    assert call("train", "ebm", frames, "-o", fit, "--frames", 200, "--epochs", 1, "--warm", 0.5, *SMALL) == 0
    result = json.loads((fit / "result.json").read_text())
    assert result["molecule_digest"] == ala2.digest
    assert 1.0 < result["effective_frames"] < 300.0
    assert call("export", fit, "--name", "ala", "-o", tmp_path / "forcefields") == 0
    assert call("verify", "ala") == 0
    field = mlsim.load_forcefield("ala")
    floor = float(load(fit).floor)
    assert -1e6 < floor < 1e6  # settled on the samples
    config = load(fit).config
    assert isinstance(config, EBMSettings)
    assert len(config.springs) + len(config.bounds) == 22 * 21 // 2  # no distance without a limit
    assert {(spring.first, spring.second) for spring in config.springs} > bonds_and_angles(ala2)
    energies, _ = field.bind(ala2).evaluate(np.asarray(shipped.positions[::1000]))
    assert np.ptp(energies) < 100 * kT(300.0)


def test_frames_of_a_known_bias_are_all_used_and_another_bias_is_refused(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = find_system("alanine-dipeptide").directory
    shipped = ForceFrames.load(place / "training" / "frames-10ns.h5")
    shipped.take(np.arange(0, 20000, 100)).save(tmp_path / "frames.h5")
    grid = load_grid(place / "reference" / "bias.npz")
    with np.load(place / "reference" / "bias.npz") as archive:
        np.savez(tmp_path / "other.npz", **{**archive, "grid": np.roll(grid, 5, axis=1)})
    fit = ("train", "ebm", tmp_path / "frames.h5", "--epochs", 1, *SMALL)
    assert call(*fit, "--bias", tmp_path / "other.npz", "-o", tmp_path / "no") == 2
    assert "not the bias of these frames" in capsys.readouterr().err
    assert call("train", "ebm", "dw4", "--bias", tmp_path / "other.npz", "-o", tmp_path / "no") == 2
    assert "unbiased" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert call(*fit, "--bias", place / "reference" / "bias.npz", "-o", tmp_path / "fit") == 0
    result = json.loads((tmp_path / "fit" / "result.json").read_text())
    assert result["effective_frames"] == result["n_train"] == 160
    assert result["bias_digest"]


def test_bad_input_gets_one_line_and_leaves_nothing(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> str:
        capsys.readouterr()
        assert call("train", "ebm", *arguments, "-o", tmp_path / "out") == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert not (tmp_path / "out").exists()
        return lines[0]

    assert "--system" in refused(tmp_path / "nowhere")
    assert "no such file" in refused(tmp_path / "nowhere", "--system", "alanine-dipeptide")
    assert "'negatives'" in refused("dw4", "--negatives", "gibbs")
    assert "expected negatives 'esvgd'" in refused("dw4", "--particles", "model+data", "--frames", 50)
    assert "held_out" in refused("dw4", "--held-out", 1.5)
    assert "no cluster of points" in refused("lj55")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    assert call("train", "ebm", "dw4", "-o", tmp_path / "used") == 2
    assert "not empty" in capsys.readouterr().err
