"""``mlsim encoders`` and ``mlsim encode`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from typer.testing import CliRunner

from mlsim.cli.main import app
from mlsim.errors import InputError, MissingError
from mlsim.repr import images
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.beit_network import NetworkSettings, masked_model
from mlsim.repr.encoder import InputSettings

PDB = Path(__file__).resolve().parents[2] / "systems" / "alanine-dipeptide" / "structure.pdb"


@pytest.fixture
def trajectory(tmp_path: Path) -> Path:
    start = mdtraj.load(str(PDB))
    rng = np.random.default_rng(0)
    xyz = start.xyz + rng.normal(0, 0.005, (10, *start.xyz.shape[1:])).astype(np.float32)
    mdtraj.Trajectory(xyz, start.topology, time=np.arange(10.0)).save_xtc(str(tmp_path / "run.xtc"))
    return tmp_path / "run.xtc"


@pytest.fixture
def encoder(tmp_path: Path) -> BeitEncoder:
    network = NetworkSettings(size=12, patch=4, hidden=16, layers=1, heads=2, feedforward=32)
    made = BeitEncoder(
        masked_model(network, 5, seed=0), (0.3,), (0.3,), inputs=InputSettings(kind="extension-map", size=12)
    )
    made.save(tmp_path / "encoder")
    return made


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_features_of_a_trajectory_are_those_of_its_maps(trajectory: Path, encoder: BeitEncoder, tmp_path: Path) -> None:
    output = tmp_path / "out" / "features.npz"
    said = run("encode", trajectory, "--top", PDB, "--encoder", tmp_path / "encoder", "-o", output, "--stride", 2)
    assert "5 frames, 16 features" in said
    frames = mdtraj.load(str(trajectory), top=str(PDB))[::2]
    expected = encoder.encode(images.prepare(frames.xyz, frames.topology, encoder.inputs))
    with np.load(output) as found:
        np.testing.assert_allclose(found["features"], expected, atol=1e-5)
        assert found["frame"].tolist() == [0, 2, 4, 6, 8]
        assert found["time_ps"].tolist() == [0, 2, 4, 6, 8]
        record = json.loads(str(found["record"]))
    assert record["inputs"]["kind"] == "extension-map"


def test_the_shipped_encoders_are_listed() -> None:
    from mlsim.repr.shipped_encoders import available

    said = run("encoders")
    assert all(entry.name in said for entry in available())
    assert "beit" in said


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (["--encoder", "{encoder}", "-o", "x.csv"], InputError, ".npz"),
        (["--encoder", "no-such", "-o", "x.npz"], MissingError, "no encoder 'no-such'"),
        (["--encoder", "{encoder}", "-o", "x.npz", "--top", "none.pdb"], MissingError, "--top"),
        (["--encoder", "{encoder}", "-o", "x.npz", "--top", str(PDB), "--layer", "9"], InputError, "layer"),
    ],
)
def test_what_cannot_be_encoded_leaves_nothing_behind(
    trajectory: Path, encoder: BeitEncoder, tmp_path: Path, words: list[str], error: type[Exception], match: str
) -> None:
    filled = [word.format(encoder=tmp_path / "encoder") for word in words]
    filled = [str(tmp_path / word) if word.startswith("x.") else word for word in filled]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=match):
        CliRunner().invoke(app, ["encode", str(trajectory), *filled], catch_exceptions=False)
    assert sorted(tmp_path.rglob("*")) == before
