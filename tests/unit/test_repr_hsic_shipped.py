"""The shipped time-lagged encoder: its first coordinate is the phi > 0 basin of alanine dipeptide."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np

from mlsim.dataset.frames import ForceFrames
from mlsim.repr.images import prepare
from mlsim.repr.registry import load_encoder
from mlsim.repr.shipped_encoders import available

NAME = "hsic-alanine-dipeptide"
SYSTEM = Path(__file__).resolve().parents[2] / "systems" / "alanine-dipeptide"


def test_the_shipped_encoder_is_small_and_has_a_card_with_scores() -> None:
    shipped = {entry.name: entry for entry in available()}[NAME]
    assert shipped.kind == "hsic"
    assert {"data", "command", "scores", "caution"} <= shipped.card.keys()
    assert sum(path.stat().st_size for path in shipped.directory.iterdir()) < 5e6


def test_its_first_coordinate_tells_the_basin_on_frames_it_was_not_trained_on() -> None:
    frames = ForceFrames.load(SYSTEM / "training" / "frames.h5").take(slice(15_000, None, 20))
    encoder = load_encoder(NAME)
    inputs = prepare(frames.positions, mdtraj.load_topology(str(SYSTEM / "structure.pdb")), encoder.inputs)
    coordinate = encoder.encode(inputs)[:, 0]
    inside = (frames.cvs[:, 0] > 0) & (frames.cvs[:, 0] <= np.radians(130))
    half = len(inside) // 2  # a threshold from one half, the accuracy from the other
    means = [coordinate[:half][inside[:half] == side].mean() for side in (False, True)]
    told = (coordinate[half:] - np.mean(means)) * np.sign(means[1] - means[0]) > 0
    assert 0.05 < inside[half:].mean() < 0.5
    assert min((told == inside[half:])[inside[half:] == side].mean() for side in (False, True)) > 0.9
