"""Find the basins of alanine dipeptide in explicit water, and the stripes of a contact map, and draw them.

python examples/detect_basins.py -o runs/basins
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.repr.dynamic_head import minima, periodic
from mlsim.repr.dynamic_head.detector import Detector
from mlsim.repr.dynamic_head.figure import draw
from mlsim.repr.dynamic_head.scenes.contacts import contacts
from mlsim.repr.dynamic_head.scenes.landscape import image_of
from mlsim.repr.dynamic_head.scenes.scene import overlap
from mlsim.units import kT

SURFACE = Path(__file__).parents[1] / "systems" / "alanine-dipeptide" / "reference" / "surface-seed-0001.npz"


def main() -> None:
    """A surface, a contact map, two pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/basins"))
    given = parser.parse_args()
    detector = Detector.from_pretrained("maps")

    # A free-energy surface: phi to the right, psi upwards. Periodic, so basins are found across the seam.
    surface = FreeEnergySurface.load(SURFACE)
    free_energy = surface.free_energy.T / kT(surface.temperature_K)
    image = image_of(free_energy)
    found = periodic.detect(detector, image)
    degrees = found.boxes * 360.0 / len(image) - 180.0
    print(f"{'basin':>5s} {'score':>6s} {'phi, deg':>16s} {'psi, deg':>16s}")
    for number, (box, score) in enumerate(zip(degrees, found.scores, strict=True)):
        print(f"{number:5d} {score:6.2f} {box[0]:7.0f} .. {box[2]:4.0f}  {box[1]:7.0f} .. {box[3]:4.0f}")
    window = (-180.0, 180.0, -180.0, 180.0)
    names = ("phi (deg)", "psi (deg)")
    draw(image, found, given.output / "basins.png", window=window, names=names, title="alanine dipeptide, TIP3P")

    # The same surface without learning: minima that persist for half a kT after light smoothing.
    known = np.nan_to_num(free_energy, nan=np.inf)
    lasting = minima.persistent(minima.smoothed(known, 0.7, True), least=0.5)
    print(f"{len(lasting.boxes)} persistent minima; populations {np.round(lasting.population, 3).tolist()}")

    # A contact map of a made-up chain.
    chain = contacts(np.random.default_rng(3))
    stripes = detector.detect(chain.image, score=0.4, overlap=0.3)
    right = (overlap(chain.boxes, stripes.boxes) > 0.5) & (chain.labels[:, None] + 1 == stripes.labels[None])
    print(
        f"contact map: {len(chain.boxes)} stripes, {right.any(axis=1).sum()} of them found, {len(stripes.boxes)} boxes"
    )
    draw(chain.image, stripes, given.output / "contacts.png", names=("residue", "residue"), title="contact map")
    print(f"pictures in {given.output}")


if __name__ == "__main__":
    main()
