"""The shipped detector ``maps``: basins of free-energy surfaces and stripes of contact maps, one network for both.

``python -m benchmarks.repr.shipped_maps DIR`` makes it again (about one minute on one idle core; a run that was stopped
goes on from its checkpoint).

Why one network: the two kinds of map never mix up (a surface has no diagonal), and half the weights are shared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlsim.repr.dynamic_head.detector import Detector, DetectorSettings
from mlsim.repr.dynamic_head.detector_fit import FitSettings, fit
from mlsim.repr.dynamic_head.network.block import DyHeadSettings
from mlsim.repr.dynamic_head.scenes import contacts, landscape
from mlsim.repr.dynamic_head.scenes.scene import Scene

#: What the detector names; the first is for surfaces, the others for contact maps.
CLASSES = ("basin", *contacts.CLASSES)
SETTINGS = DetectorSettings(
    classes=CLASSES, widths=(16, 32, 48, 64), neck=DyHeadSettings(in_channels=32, channels=32, groups=8)
)
FIT = FitSettings(steps=600, batch_size=8, learning_rate=3e-3, warmup_steps=40, seed=7)


def maps(generator: np.random.Generator) -> Scene:
    """A surface or a contact map, even odds; labels index ``CLASSES``."""
    if generator.uniform() < 0.5:
        return landscape.basins(generator)
    drawn = contacts.contacts(generator)
    return Scene(drawn.image, drawn.boxes, drawn.labels + 1)


def train(directory: Path) -> Detector:
    """Train the detector and save it into ``directory``."""
    detector = Detector(SETTINGS, seed=FIT.seed)
    with tqdm(total=FIT.steps, disable=not sys.stderr.isatty()) as bar:

        def advance(done: int, _: int) -> None:
            bar.update(done - bar.n)

        result = fit(detector, maps, FIT, directory=directory, progress=advance)
    detector.save(directory)
    print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}, detector in {directory}")
    return detector


if __name__ == "__main__":
    train(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/maps-detector"))
