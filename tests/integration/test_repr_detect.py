"""``mlsim detect`` from the outside, and the detector that is shipped."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.repr.shipped_maps import CLASSES
from mlsim.cli.main import main
from mlsim.repr.dynamic_head import periodic
from mlsim.repr.dynamic_head.detector import TRAINED, Detector, available
from mlsim.repr.dynamic_head.scenes import landscape
from mlsim.repr.dynamic_head.scenes.contacts import contacts
from mlsim.repr.dynamic_head.scenes.landscape import image_of
from mlsim.repr.dynamic_head.scenes.scene import overlap
from mlsim.settings import read_yaml

ROOT = Path(__file__).resolve().parents[2]
SURFACE = ROOT / "systems" / "alanine-dipeptide" / "reference" / "surface-seed-0001.npz"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def mlsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The program, run inside this process: importing torch ten times over would take a minute."""

    def run(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["mlsim", *map(str, words)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        text = capsys.readouterr()
        return Done(int(code) if code else 0, text.out, text.err)

    return run


def test_basins_of_alanine_dipeptide_in_degrees(mlsim: Command, tmp_path: Path) -> None:
    done = mlsim("detect", SURFACE, "-o", tmp_path / "boxes.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "boxes.json").read_text())["found"]
    assert found
    assert {one["class"] for one in found} == {"basin"}

    def near(phi: float, psi: float) -> bool:
        """A box holds the place, or one of its images."""
        for one in found:
            (left, right), (low, high) = one["phi_deg"], one["psi_deg"]
            if any(left < phi + a < right and low < psi + b < high for a in (-360, 0, 360) for b in (-360, 0, 360)):
                return True
        return False

    assert near(-70.0, -20.0), "alphaR"
    assert near(-75.0, 150.0), "PII"
    assert not near(0.0, 0.0), "a barrier"
    assert done.stdout.count("basin ") == len(found)


def test_a_picture_is_drawn_of_a_surface_and_of_an_image(mlsim: Command, tmp_path: Path) -> None:
    scene = contacts(np.random.default_rng(2))
    Image.fromarray((255 * scene.image).astype(np.uint8)).save(tmp_path / "map.png")
    for source in (SURFACE, tmp_path / "map.png"):
        output = tmp_path / f"{source.stem}-boxes.png"
        done = mlsim("detect", source, "-o", output)
        assert done.returncode == 0, done.stderr
        with Image.open(output) as drawn:
            assert drawn.size[0] > 400
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "no such file; expected a surface of mlsim fes, an image or a .npy array"),
        ("text.png", b"not an image", "not an image that can be read"),
        ("bad.npz", b"PK", "not a free-energy surface"),
        ("bad.npy", b"\x93NUMPY", "not a numpy array of numbers"),
    ],
)
def test_input_that_cannot_be_used_is_one_line(
    mlsim: Command, name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = mlsim("detect", path, "-o", tmp_path / "out.json")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.json").exists()


def test_wrong_endings_and_unknown_detectors_are_named(mlsim: Command, tmp_path: Path) -> None:
    assert "expected a file ending in .json or .png" in mlsim("detect", SURFACE, "-o", tmp_path / "x.txt").stderr
    done = mlsim("detect", SURFACE, "--detector", "nobody")
    assert done.returncode == 2
    assert "one of: maps" in done.stderr
    np.save(tmp_path / "big.npy", 7.0 * np.ones((20, 20)))
    assert "expected values in [0, 1], got [7, 7]" in mlsim("detect", tmp_path / "big.npy").stderr


def test_the_shipped_detector_is_small_and_has_a_card() -> None:
    assert available() == ("maps",)
    assert (TRAINED / "maps" / "weights.safetensors").stat().st_size < 5_000_000
    card = read_yaml(TRAINED / "maps" / "card.yaml")
    assert {"name", "trained_on", "command", "classes", "limits", "measured"} <= set(card)
    assert tuple(card["classes"]) == CLASSES == Detector.from_pretrained("maps").classes


def test_the_shipped_detector_finds_deep_basins_of_surfaces_it_was_not_trained_on() -> None:
    detector, right, true = Detector.from_pretrained("maps"), 0, 0
    for seed in range(12):
        drawn = landscape.landscape(np.random.default_rng(4000 + seed), "torsion", frames=30_000)
        found = periodic.detect(detector, image_of(drawn.sampled))
        if len(found.boxes):
            ratio = periodic.periodic_overlap(64.0 * drawn.boxes, found.boxes, (64, 64))
            right += int((ratio.max(axis=1) > 0.5).sum())
        true += len(drawn.boxes)
    assert right / true > 0.6


def test_the_shipped_detector_finds_stripes() -> None:
    detector, right, true = Detector.from_pretrained("maps"), 0, 0
    for seed in range(12):
        scene = contacts(np.random.default_rng(4000 + seed))
        found = detector.detect(scene.image)
        for box, label in zip(scene.boxes, scene.labels, strict=True):
            same = found.boxes[found.labels == label + 1]
            right += len(same) > 0 and overlap(box[None], same).max() > 0.5
        true += len(scene.boxes)
    assert right / true > 0.6
